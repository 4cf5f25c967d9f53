//! Why a deployment is not (yet) what was asked for, as types; text is made from them at the edge.

use planner::engine::EngineError;
use planner::identity::{AgentId, ExpertId};
use planner::plan::WaitingOn;
use planner::rollout;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One reason. Everything that waits or failed has one in the status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reason {
    /// Started, and does not listen yet.
    AgentStarting { agent: AgentId },
    /// Its process ended and a new one is being started.
    AgentRestarting { agent: AgentId, cause: String },
    /// Its process keeps ending; the next start waits.
    AgentCrashLooping { agent: AgentId, exits: u32, next_start_ms: Option<u64>, cause: String },
    /// Its experts move to others, then it is stopped.
    AgentLeaving { agent: AgentId },
    /// It does not answer gRPC.
    AgentUnreachable { agent: AgentId, address: String, cause: String },
    /// It did not take its assignment.
    AssignmentRefused { agent: AgentId, cause: String },
    /// It reads weights.
    AgentLoading { agent: AgentId, bytes_loaded: u64, bytes_total: u64 },
    /// It cannot serve; the error names what to do.
    AgentFailed { agent: AgentId, error: String },
    /// It cannot be started, for example because its image cannot be pulled.
    AgentUnstartable { agent: AgentId, cause: String },
    /// No machine takes it.
    AgentUnschedulable { agent: AgentId, cause: String },
    /// It has read another model than the plan is for, and gets no share of it.
    ModelsDiffer { agent: AgentId, planned: String, reported: String },
    /// Others hold its experts by now.
    AgentLost { agent: AgentId, silent_seconds: u64 },
    /// No agent answers; one that is cut off itself must not take all of them for lost.
    AllSilent { agents: u32 },
    /// It runs with something that only a restart changes.
    AgentNeedsRestart { agent: AgentId, cause: String },
    /// It takes no new sequences and is restarted when its own have ended.
    AgentDraining { agent: AgentId, sequences: u32 },
    /// It reports trouble with a peer.
    PeerTrouble { agent: AgentId, peer: AgentId, cause: String },
    /// Agents compute on different kernel paths, so a greedy text may depend on the agent.
    KernelPathsDiffer { paths: Vec<String> },
    /// Experts that no agent holds at the moment.
    ExpertsMissing { count: u32, first: ExpertId },
    /// Some expert has fewer copies in memory than the plan wants.
    CopiesMissing { resident: u32, wanted: u32 },
    /// No agent has read the model yet, so nothing can be planned.
    ModelUnread,
    /// The model cannot do what was asked for.
    ContextTooLong { asked: u32, longest: u32 },
    /// Outdated agents wait for their turn.
    RolloutWaits { outdated: u32, waiting: rollout::Waiting },
    /// No further agent is restarted until something is changed.
    RolloutStopped { outdated: u32, stopped: rollout::Stopped },
    /// No router listens yet.
    RouterStarting,
    /// The router's process keeps ending.
    RouterCrashLooping { exits: u32, next_start_ms: Option<u64>, cause: String },
    /// The router's control service does not take the homes.
    RouterUnreachable { address: String, cause: String },
    /// The router knows no home that takes requests yet.
    RouterWithoutHomes { address: String },
    /// The plan falls short of what was asked for.
    PlanFallsShort { shortfall: String },
    /// No plan can be made; the old one, if any, stays.
    NoPlan { error: String },
    /// The substrate itself failed.
    SubstrateFailed { verb: String, error: String },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentStarting { .. }
            | Self::AgentRestarting { .. }
            | Self::AgentCrashLooping { .. }
            | Self::AgentLeaving { .. }
            | Self::AgentUnreachable { .. }
            | Self::AssignmentRefused { .. }
            | Self::AgentLoading { .. }
            | Self::AgentFailed { .. }
            | Self::AgentUnstartable { .. }
            | Self::AgentUnschedulable { .. }
            | Self::ModelsDiffer { .. }
            | Self::AgentLost { .. }
            | Self::AgentNeedsRestart { .. }
            | Self::AgentDraining { .. }
            | Self::PeerTrouble { .. } => self.fmt_agent(f),
            Self::AllSilent { agents } => {
                write!(f, "none of {agents} agents answers; the plan stays as it is")
            }
            Self::ModelUnread => f.write_str("no agent has read the model yet"),
            Self::ContextTooLong { asked, longest } => {
                EngineError::ContextTooLong { asked: *asked, longest: *longest }.fmt(f)
            }
            Self::RolloutWaits { outdated, waiting } => {
                write!(f, "{outdated} outdated agents are still to be restarted: {waiting}")
            }
            Self::RolloutStopped { outdated, stopped } => write!(
                f,
                "{outdated} outdated agents are not restarted: {stopped}; change the deployment to go on"
            ),
            Self::KernelPathsDiffer { paths } => write!(
                f,
                "agents compute on different kernel paths ({}); pin one for identical texts",
                paths.join(", ")
            ),
            Self::ExpertsMissing { count, first: ExpertId { layer, expert } } => {
                write!(
                    f,
                    "no agent holds {count} experts, the first is layer {layer} expert {expert}"
                )
            }
            Self::CopiesMissing { resident, wanted } => {
                write!(f, "some expert has {resident} copies in memory of {wanted} wanted")
            }
            Self::RouterStarting => f.write_str("the router is starting"),
            Self::RouterCrashLooping { exits, next_start_ms, cause } => {
                write!(f, "the router {}", Exits(*exits, *next_start_ms, cause))
            }
            Self::RouterUnreachable { address, cause } => {
                write!(f, "the router's control service at {address} does not answer: {cause}")
            }
            Self::RouterWithoutHomes { address } => {
                write!(f, "the router at {address} has no home that takes requests yet")
            }
            Self::PlanFallsShort { shortfall } => f.write_str(shortfall),
            Self::NoPlan { error } => write!(f, "no plan: {error}"),
            Self::SubstrateFailed { verb, error } => write!(f, "{verb}: {error}"),
        }
    }
}

/// How often something ended, when it starts next as far as that is known, and why it ended.
struct Exits<'a>(u32, Option<u64>, &'a str);

impl fmt::Display for Exits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(exits, next_start_ms, cause) = self;
        write!(f, "ended {exits} times in a row")?;
        if let Some(next_start_ms) = next_start_ms {
            write!(f, ", next start in {next_start_ms} ms")?;
        }
        write!(f, ": {cause}")
    }
}

impl Reason {
    /// What the planner could not do.
    pub fn shortfall(waiting: &WaitingOn) -> Self {
        Self::PlanFallsShort { shortfall: waiting.to_string() }
    }

    fn fmt_agent(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentStarting { agent } => write!(f, "{agent} is starting"),
            Self::AgentRestarting { agent, cause } => {
                write!(f, "{agent} is being replaced: {cause}")
            }
            Self::AgentCrashLooping { agent, exits, next_start_ms, cause } => {
                write!(f, "{agent} {}", Exits(*exits, *next_start_ms, cause))
            }
            Self::AgentLeaving { agent } => write!(f, "{agent} is leaving"),
            Self::AgentUnreachable { agent, address, cause } => {
                write!(f, "{agent} at {address} does not answer: {cause}")
            }
            Self::AssignmentRefused { agent, cause } => {
                write!(f, "{agent} did not take its assignment: {cause}")
            }
            Self::AgentLoading { agent, bytes_loaded, bytes_total } => {
                write!(f, "{agent} has loaded {bytes_loaded} of {bytes_total} bytes")
            }
            Self::AgentFailed { agent, error } => write!(f, "{agent} failed: {error}"),
            Self::AgentUnstartable { agent, cause } => {
                write!(f, "{agent} cannot be started: {cause}")
            }
            Self::AgentUnschedulable { agent, cause } => {
                write!(f, "no machine takes {agent}: {cause}")
            }
            Self::ModelsDiffer { agent, planned, reported } => write!(
                f,
                "{agent} has read model {reported} and the plan is for {planned}; pin spec.model.revision, or restart the agent"
            ),
            Self::AgentLost { agent, silent_seconds } => write!(
                f,
                "{agent} has not answered for {silent_seconds} s; its experts are on others now"
            ),
            Self::AgentNeedsRestart { agent, cause } => {
                write!(f, "{agent} is to be restarted: {cause}")
            }
            Self::AgentDraining { agent, sequences } => {
                write!(f, "{agent} is restarted once its {sequences} sequences have ended")
            }
            Self::PeerTrouble { agent, peer, cause } => {
                write!(f, "{agent} has trouble with {peer}: {cause}")
            }
            Self::AllSilent { .. }
            | Self::ModelUnread
            | Self::ContextTooLong { .. }
            | Self::RolloutWaits { .. }
            | Self::RolloutStopped { .. }
            | Self::KernelPathsDiffer { .. }
            | Self::ExpertsMissing { .. }
            | Self::CopiesMissing { .. }
            | Self::RouterStarting
            | Self::RouterCrashLooping { .. }
            | Self::RouterUnreachable { .. }
            | Self::RouterWithoutHomes { .. }
            | Self::PlanFallsShort { .. }
            | Self::NoPlan { .. }
            | Self::SubstrateFailed { .. } => Ok(()),
        }
    }
}
