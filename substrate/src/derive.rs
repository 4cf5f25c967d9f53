//! What was applied and what agents say → the status that people read. Pure.

use crate::apply::Applied;
use crate::assign::AssignOutcome;
use crate::lost::Losses;
use crate::reason::Reason;
use crate::report::{Report, Reports};
use crate::routers::{RouterOutcome, RouterWords};
use crate::signals::staying;
use crate::status::{
    AgentCondition, AgentCounts, AgentDetail, DeploymentStatus, ExpertCounts, Phase, PlanStatus,
    RouterCounts,
};
use crate::substrate::{Observed, Wanted};
use planner::identity::{AgentId, ExpertId};
use planner::inventory::AgentState;
use planner::plan::{AgentRole, Plan};
use planner::spec::Goal;
use proto::v1::AgentPhase;
use std::collections::{BTreeMap, BTreeSet};

/// What a status is derived from, beside what was applied.
#[derive(Debug)]
pub struct View<'a> {
    pub goal: &'a Goal,
    pub wanted: Wanted,
    pub observed: &'a Observed,
    pub reports: &'a Reports,
    pub losses: &'a Losses,
    pub routers: &'a RouterWords,
    /// Hash of the plan that was applied.
    pub hash: String,
    /// What went wrong on the way to a plan.
    pub reasons: Vec<Reason>,
    /// The phase of the status before this one.
    pub before: Phase,
}

/// Derives the status. Without anything applied the deployment is pending or failed.
pub fn derive(applied: Option<&Applied>, view: View<'_>) -> DeploymentStatus {
    let View { goal, wanted, observed, reports, losses, routers, hash, mut reasons, before } = view;
    let details = details(observed, reports, losses);
    let leaving = leaving(observed);
    let ready = details.iter().filter(|detail| detail.condition == AgentCondition::Ready);
    let ready = ready.filter(|detail| !leaving.contains(&detail.agent)).count();
    let experts = count_experts(applied.map(Applied::plan), &leaving, reports);
    reasons.extend(observed.reasons.iter().cloned());
    reasons.extend(
        observed.starting.iter().map(|agent| Reason::AgentStarting { agent: agent.clone() }),
    );
    reasons.extend(agent_reasons(observed, reports, losses));
    reasons.extend(kernel_reasons(&details));
    if let Some(applied) = applied {
        reasons.extend(apply_reasons(applied, observed));
        reasons.extend(expert_reasons(applied.plan(), &experts, reports));
    }
    if wanted.routers.is_some() && wanted.agents > 0 {
        reasons.extend(router_reasons(applied, routers));
    }
    let agents = AgentCounts { ready: count(ready), ..count_agents(wanted, observed) };
    let routers = RouterCounts {
        ready: count(routers.values().filter(|word| word.is_ready()).count()),
        desired: wanted.routers.unwrap_or(0),
    };
    let stand = Stand {
        applied: applied.is_some(),
        // Below the least that was asked for; more than that may still be on its way up.
        short: agents.ready < goal.agents.min.min(wanted.agents).max(1),
        agents,
        routers,
        experts,
    };
    DeploymentStatus {
        phase: phase(&stand, wanted, &reasons, before),
        reasons,
        url: observed.url.clone(),
        agents,
        routers,
        experts,
        tokens_per_second: details.iter().map(|detail| detail.tokens_per_second).sum(),
        cost: None,
        scaled: Vec::new(),
        plan: plan_status(applied.map(Applied::plan), hash),
        agent_details: details,
    }
}

fn plan_status(plan: Option<&Plan>, hash: String) -> PlanStatus {
    PlanStatus {
        generation: plan.map(|plan| plan.generation),
        hash,
        fingerprint: plan.map(|plan| plan.facts.fingerprint.clone()).unwrap_or_default(),
        architecture: plan.map(|plan| plan.facts.architecture.clone()).unwrap_or_default(),
        revision: plan.map(|plan| plan.facts.revision.clone()).unwrap_or_default(),
        context_length: plan.map_or(0, |plan| plan.engine.context_length),
    }
}

fn count_agents(wanted: Wanted, observed: &Observed) -> AgentCounts {
    let staying = staying(observed);
    let outdated = staying.iter().filter(|agent| observed.inventory.outdated.contains(*agent));
    let outdated = count(outdated.count());
    let updated = count(staying.len()).saturating_sub(outdated);
    AgentCounts { ready: 0, desired: wanted.agents, updated, outdated }
}

/// Whether an agent says that no sequence runs or waits on it.
pub fn is_idle(agent: &AgentId, reports: &Reports) -> bool {
    let Some(status) = reports.get(agent).and_then(Report::status) else { return false };
    status.current.is_none_or(|load| load.sequences_running + load.sequences_waiting == 0)
}

/// Whether a leaving agent's experts are held by others: every other planned holder has them in memory, and there is
/// at least one.
pub fn is_covered(
    agent: &AgentId,
    plan: Option<&Plan>,
    observed: &Observed,
    reports: &Reports,
) -> bool {
    let Some(plan) = plan else { return true };
    let leaving = leaving(observed);
    let resident = residents(reports);
    // A plan that does not know that it leaves gives others nothing of it yet.
    let planned = plan.agents.get(agent).is_none_or(|it| it.role == AgentRole::ExpertsOnly);
    planned
        && plan.placement.iter().all(|(expert, holders)| {
            let mut others = holders.iter().filter(|holder| !leaving.contains(*holder)).peekable();
            let resident = |holder| resident.get(expert).is_some_and(|it| it.contains(holder));
            others.peek().is_some() && others.all(resident)
        })
}

fn leaving(observed: &Observed) -> BTreeSet<AgentId> {
    let agents = observed.inventory.agents.iter();
    agents
        .filter(|(_, facts)| facts.state == AgentState::Leaving)
        .map(|(agent, _)| agent.clone())
        .collect()
}

/// Who holds what in memory.
fn residents(reports: &Reports) -> BTreeMap<ExpertId, BTreeSet<AgentId>> {
    let mut residents: BTreeMap<ExpertId, BTreeSet<AgentId>> = BTreeMap::new();
    for (agent, report) in reports {
        for expert in report.resident() {
            residents.entry(expert).or_default().insert(agent.clone());
        }
    }
    residents
}

fn count_experts(
    plan: Option<&Plan>,
    leaving: &BTreeSet<AgentId>,
    reports: &Reports,
) -> ExpertCounts {
    let residents = residents(reports);
    let mut counts = ExpertCounts { placed: 0, missing: 0, copies: 0, copies_planned: 0 };
    let Some(plan) = plan else { return counts };
    let copies_of = |expert| residents.get(expert).map_or(0, BTreeSet::len);
    let planned_of =
        |holders: &Vec<AgentId>| holders.iter().filter(|holder| !leaving.contains(*holder)).count();
    counts.placed = count(plan.placement.keys().filter(|expert| copies_of(expert) > 0).count());
    counts.missing = count(plan.placement.len()) - counts.placed;
    counts.copies = count(plan.placement.keys().map(copies_of).min().unwrap_or(0));
    counts.copies_planned = count(plan.placement.values().map(planned_of).min().unwrap_or(0));
    counts
}

fn details(observed: &Observed, reports: &Reports, losses: &Losses) -> Vec<AgentDetail> {
    let starting = observed.starting.iter().map(|agent| (agent, None));
    let known = observed.inventory.agents.iter().map(|(agent, facts)| (agent, Some(facts)));
    let mut details: Vec<AgentDetail> = starting
        .chain(known)
        .map(|(agent, facts)| {
            let report = reports.get(agent);
            let status = report.and_then(Report::status);
            let load = status.and_then(|status| status.load);
            let current = status.and_then(|status| status.current);
            let mut resident: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for expert in report.map(Report::resident).unwrap_or_default() {
                resident.entry(expert.layer).or_default().push(expert.expert);
            }
            AgentDetail {
                agent: agent.clone(),
                instance: observed.instances.get(agent).cloned(),
                address: facts.map(|facts| facts.address.clone()),
                condition: match losses.lost.contains_key(agent) {
                    true => AgentCondition::Lost,
                    false => condition(facts.map(|facts| facts.state), report),
                },
                generation: report.and_then(Report::generation),
                bytes_loaded: load.map_or(0, |load| load.bytes_loaded),
                bytes_total: load.map_or(0, |load| load.bytes_total),
                resident,
                kernel_path: status.map(|status| status.kernel_path.clone()).unwrap_or_default(),
                sequences_running: current.map_or(0, |load| load.sequences_running),
                sequences_waiting: current.map_or(0, |load| load.sequences_waiting),
                tokens_per_second: current
                    .map_or(0.0, |load| f64::from(load.generated_tokens_per_second)),
            }
        })
        .collect();
    details.sort_by(|a, b| a.agent.cmp(&b.agent));
    details
}

fn condition(state: Option<AgentState>, report: Option<&Report>) -> AgentCondition {
    match (state, report) {
        (None, _) => AgentCondition::Starting,
        (Some(AgentState::Restarting), _) => AgentCondition::Restarting,
        (Some(AgentState::Lost), _) => AgentCondition::Lost,
        (Some(AgentState::Running | AgentState::Draining | AgentState::Leaving), report) => {
            match report {
                None | Some(Report::Awaited) => AgentCondition::Starting,
                Some(Report::Silent { .. }) => AgentCondition::Silent,
                Some(Report::Heard(status)) => match status.phase() {
                    AgentPhase::Unassigned => AgentCondition::Unassigned,
                    AgentPhase::Loading => AgentCondition::Loading,
                    AgentPhase::Ready => AgentCondition::Ready,
                    AgentPhase::Draining => AgentCondition::Draining,
                    AgentPhase::Failed => AgentCondition::Failed,
                },
            }
        }
    }
}

fn agent_reasons(observed: &Observed, reports: &Reports, losses: &Losses) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (id, facts) in &observed.inventory.agents {
        let agent = id.clone();
        if facts.state == AgentState::Leaving {
            reasons.push(Reason::AgentLeaving { agent: agent.clone() });
        }
        match reports.get(id) {
            None | Some(Report::Awaited) => {}
            // The loss itself is told.
            Some(Report::Silent { .. }) if losses.lost.contains_key(id) => {}
            Some(Report::Silent { cause }) => reasons.push(Reason::AgentUnreachable {
                agent,
                address: facts.address.clone(),
                cause: cause.clone(),
            }),
            Some(Report::Heard(status)) => {
                let load = status.load.unwrap_or_default();
                match status.phase() {
                    AgentPhase::Loading => reasons.push(Reason::AgentLoading {
                        agent: agent.clone(),
                        bytes_loaded: load.bytes_loaded,
                        bytes_total: load.bytes_total,
                    }),
                    AgentPhase::Failed => reasons.push(Reason::AgentFailed {
                        agent: agent.clone(),
                        error: status.error.clone(),
                    }),
                    AgentPhase::Unassigned | AgentPhase::Ready | AgentPhase::Draining => {}
                }
                reasons.extend(status.troubles.iter().map(|trouble| Reason::PeerTrouble {
                    agent: agent.clone(),
                    peer: AgentId::new(trouble.agent_id.clone()),
                    cause: trouble.reason.clone(),
                }));
            }
        }
    }
    reasons
}

fn kernel_reasons(details: &[AgentDetail]) -> Option<Reason> {
    let paths: BTreeSet<&str> = details
        .iter()
        .map(|detail| detail.kernel_path.as_str())
        .filter(|path| !path.is_empty())
        .collect();
    (paths.len() > 1).then(|| Reason::KernelPathsDiffer {
        paths: paths.into_iter().map(str::to_owned).collect(),
    })
}

fn apply_reasons(applied: &Applied, observed: &Observed) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (agent, outcome) in applied.agents() {
        match outcome {
            AssignOutcome::Held | AssignOutcome::NeedsRestart { .. } => {}
            AssignOutcome::Outdated { cause } | AssignOutcome::Refused { cause } => {
                reasons
                    .push(Reason::AssignmentRefused { agent: agent.clone(), cause: cause.clone() });
            }
            AssignOutcome::Unreachable { cause } => {
                let facts = observed.inventory.agents.get(agent);
                reasons.push(Reason::AgentUnreachable {
                    agent: agent.clone(),
                    address: facts.map(|facts| facts.address.clone()).unwrap_or_default(),
                    cause: cause.clone(),
                });
            }
        }
    }
    reasons
}

fn router_reasons(applied: Option<&Applied>, routers: &RouterWords) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (address, outcome) in routers {
        let address = address.clone();
        match outcome {
            RouterOutcome::Holds(status) if status.homes_ready > 0 => {}
            RouterOutcome::Holds(_) | RouterOutcome::Answers(_) | RouterOutcome::Awaited => {
                if applied.is_some() {
                    reasons.push(Reason::RouterWithoutHomes { address });
                }
            }
            RouterOutcome::Outdated { cause, .. } | RouterOutcome::Failed { cause } => {
                reasons.push(Reason::RouterUnreachable { address, cause: cause.clone() });
            }
        }
    }
    reasons
}

fn expert_reasons(plan: &Plan, experts: &ExpertCounts, reports: &Reports) -> Option<Reason> {
    let residents = residents(reports);
    let first = plan.placement.keys().find(|expert| !residents.contains_key(expert));
    match first {
        Some(&first) => Some(Reason::ExpertsMissing { count: experts.missing, first }),
        None if experts.copies < experts.copies_planned => {
            Some(Reason::CopiesMissing { resident: experts.copies, wanted: experts.copies_planned })
        }
        None => None,
    }
}

/// How far things are.
struct Stand {
    applied: bool,
    short: bool,
    agents: AgentCounts,
    routers: RouterCounts,
    experts: ExpertCounts,
}

fn phase(stand: &Stand, wanted: Wanted, reasons: &[Reason], before: Phase) -> Phase {
    let Stand { applied, short, agents, routers, experts } = stand;
    let hopeless = reasons.iter().any(is_hopeless);
    if wanted.agents == 0 {
        return if hopeless { Phase::Failed } else { Phase::Sleeping };
    }
    let whole = *applied && experts.missing == 0 && agents.ready > 0;
    let complete = whole && !short && experts.copies >= experts.copies_planned;
    // A group that routers do not know of yet is judged by its agents.
    let routed = wanted.routers.is_none() || routers.ready > 0;
    let routed_by_all = routed && routers.ready >= routers.desired;
    if complete && routed_by_all {
        return Phase::Available;
    }
    match before {
        Phase::Available | Phase::Degraded if hopeless && agents.ready == 0 => Phase::Failed,
        Phase::Available | Phase::Degraded => Phase::Degraded,
        // It serves, through fewer routers than there should be.
        _ if complete && routed => Phase::Degraded,
        Phase::Pending | Phase::Loading | Phase::Failed | Phase::Sleeping if hopeless => {
            Phase::Failed
        }
        Phase::Pending | Phase::Loading | Phase::Failed | Phase::Sleeping if *applied => {
            Phase::Loading
        }
        Phase::Pending | Phase::Loading | Phase::Failed | Phase::Sleeping => Phase::Pending,
    }
}

/// Waiting alone does not mend it.
fn is_hopeless(reason: &Reason) -> bool {
    match reason {
        Reason::AgentCrashLooping { .. }
        | Reason::AgentFailed { .. }
        | Reason::AgentUnstartable { .. }
        | Reason::ContextTooLong { .. }
        | Reason::RouterCrashLooping { .. }
        | Reason::NoPlan { .. }
        | Reason::SubstrateFailed { .. } => true,
        Reason::AgentStarting { .. }
        | Reason::AgentRestarting { .. }
        | Reason::AgentLeaving { .. }
        | Reason::AgentUnreachable { .. }
        | Reason::AssignmentRefused { .. }
        | Reason::AgentLoading { .. }
        | Reason::AgentUnschedulable { .. }
        | Reason::ModelsDiffer { .. }
        | Reason::AgentLost { .. }
        | Reason::AllSilent { .. }
        | Reason::AgentNeedsRestart { .. }
        | Reason::AgentDraining { .. }
        | Reason::ModelUnread
        | Reason::RolloutWaits { .. }
        | Reason::RolloutStopped { .. }
        | Reason::PeerTrouble { .. }
        | Reason::KernelPathsDiffer { .. }
        | Reason::ExpertsMissing { .. }
        | Reason::CopiesMissing { .. }
        | Reason::PlanFallsShort { .. }
        | Reason::RouterStarting
        | Reason::RouterUnreachable { .. }
        | Reason::RouterWithoutHomes { .. } => false,
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
