//! What each reason means for the conditions: one table, so that a new reason cannot be forgotten. Pure.

use crds::ConditionReason;
use planner::identity::AgentId;
use substrate::reason::Reason;

/// What a reason says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Something is being done; the higher number says more about the whole.
    Activity(ConditionReason, u8),
    /// Nothing goes on by itself.
    Block,
    /// Something is lost, whether the deployment serves already or not.
    Loss(ConditionReason, u8),
    /// The same, but only once it serves: what comes up is not lost.
    LossOnceServing(ConditionReason, u8),
    /// It is part of what other reasons say.
    Nothing,
}

/// The table.
pub fn meaning(reason: &Reason) -> Meaning {
    match reason {
        Reason::AgentStarting { .. } | Reason::RouterStarting => {
            Meaning::Activity(ConditionReason::AgentsStarting, 1)
        }
        Reason::AgentLoading { .. } | Reason::ModelUnread => {
            Meaning::Activity(ConditionReason::Loading, 2)
        }
        Reason::AgentLeaving { .. } => Meaning::Activity(ConditionReason::Scaling, 3),
        Reason::AgentNeedsRestart { .. }
        | Reason::AgentDraining { .. }
        | Reason::RolloutWaits { .. } => Meaning::Activity(ConditionReason::RollingOut, 4),
        Reason::RolloutStopped { .. }
        | Reason::NoPlan { .. }
        | Reason::ContextTooLong { .. }
        | Reason::AgentUnstartable { .. }
        | Reason::AgentUnschedulable { .. }
        | Reason::ModelsDiffer { .. }
        | Reason::AssignmentRefused { .. } => Meaning::Block,
        Reason::AgentFailed { .. } => Meaning::Loss(ConditionReason::AgentLost, 7),
        Reason::AgentCrashLooping { .. } => Meaning::Loss(ConditionReason::CrashLooping, 6),
        Reason::AgentLost { .. } | Reason::AllSilent { .. } => {
            Meaning::Loss(ConditionReason::AgentLost, 8)
        }
        Reason::ExpertsMissing { .. } => {
            Meaning::LossOnceServing(ConditionReason::ExpertsMissing, 9)
        }
        Reason::AgentUnreachable { .. } => Meaning::LossOnceServing(ConditionReason::AgentLost, 7),
        Reason::AgentRestarting { .. } => Meaning::LossOnceServing(ConditionReason::AgentLost, 6),
        Reason::CopiesMissing { .. } => Meaning::LossOnceServing(ConditionReason::CopiesMissing, 5),
        Reason::RouterCrashLooping { .. } => Meaning::Loss(ConditionReason::CrashLooping, 4),
        Reason::RouterUnreachable { .. } => {
            Meaning::LossOnceServing(ConditionReason::RouterLost, 4)
        }
        Reason::RouterWithoutHomes { .. } => Meaning::Nothing,
        Reason::PeerTrouble { .. } => Meaning::Loss(ConditionReason::PeerTrouble, 2),
        Reason::KernelPathsDiffer { .. } => Meaning::Loss(ConditionReason::KernelPathsDiffer, 1),
        // The operator has the failure itself, as a type; the planner's shortfall is a matter of room.
        Reason::SubstrateFailed { .. } | Reason::PlanFallsShort { .. } => Meaning::Nothing,
    }
}

/// Whom a reason is about, when it is one agent.
pub fn agent(reason: &Reason) -> Option<&AgentId> {
    match reason {
        Reason::AgentStarting { agent }
        | Reason::AgentRestarting { agent, .. }
        | Reason::AgentCrashLooping { agent, .. }
        | Reason::AgentLeaving { agent }
        | Reason::AgentUnreachable { agent, .. }
        | Reason::AssignmentRefused { agent, .. }
        | Reason::AgentLoading { agent, .. }
        | Reason::AgentFailed { agent, .. }
        | Reason::AgentUnstartable { agent, .. }
        | Reason::AgentUnschedulable { agent, .. }
        | Reason::ModelsDiffer { agent, .. }
        | Reason::AgentLost { agent, .. }
        | Reason::AgentNeedsRestart { agent, .. }
        | Reason::AgentDraining { agent, .. }
        | Reason::PeerTrouble { agent, .. } => Some(agent),
        Reason::AllSilent { .. }
        | Reason::KernelPathsDiffer { .. }
        | Reason::ExpertsMissing { .. }
        | Reason::CopiesMissing { .. }
        | Reason::ModelUnread
        | Reason::ContextTooLong { .. }
        | Reason::RolloutWaits { .. }
        | Reason::RolloutStopped { .. }
        | Reason::RouterStarting
        | Reason::RouterCrashLooping { .. }
        | Reason::RouterUnreachable { .. }
        | Reason::RouterWithoutHomes { .. }
        | Reason::PlanFallsShort { .. }
        | Reason::NoPlan { .. }
        | Reason::SubstrateFailed { .. } => None,
    }
}
