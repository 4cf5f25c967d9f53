//! Rollouts: what agents say → whose restart is next, and what that does to the inventory. Pure.

use crate::lost::Losses;
use crate::reason::Reason;
use crate::report::{Report, Reports};
use crate::signals::{broken, staying};
use crate::substrate::Observed;
use planner::identity::AgentId;
use planner::inventory::{AgentState, Inventory};
use planner::rollout::{AgentView, Experts, Health, RolloutMemory, Stage, Step};
use proto::v1::{AgentPhase, AgentStatus};
use std::collections::{BTreeMap, BTreeSet};

/// Agents as a rollout sees them. `refused` are those that say themselves that only a restart helps.
pub fn views(
    observed: &Observed,
    reports: &Reports,
    losses: &Losses,
    refused: &BTreeMap<AgentId, String>,
) -> BTreeMap<AgentId, AgentView> {
    let broken = broken(observed);
    let view = |agent: AgentId| {
        let report = reports.get(&agent);
        let status = report.and_then(Report::status);
        let drained = status.is_some_and(|status| status.phase() == AgentPhase::Draining);
        let outdated = observed.inventory.outdated.contains(&agent);
        let view = AgentView {
            // Draining is for good, so an agent that stays after all must be started anew.
            needs_restart: outdated || drained || refused.contains_key(&agent),
            health: health(&agent, observed, status, (losses, &broken)),
            sequences: status.map_or(0, sequences),
            progress: status.map_or(0, progress),
            resident: report.map(Report::resident).unwrap_or_default(),
        };
        (agent, view)
    };
    staying(observed).into_iter().map(view).collect()
}

fn health(
    agent: &AgentId,
    observed: &Observed,
    status: Option<&AgentStatus>,
    (losses, broken): (&Losses, &BTreeMap<AgentId, String>),
) -> Health {
    if let Some(cause) = broken.get(agent) {
        return Health::Broken { cause: cause.clone() };
    }
    let running = observed
        .inventory
        .agents
        .get(agent)
        .is_some_and(|facts| facts.state == AgentState::Running);
    let Some(status) = status.filter(|_| running && !losses.lost.contains_key(agent)) else {
        return Health::NotReady;
    };
    match status.phase() {
        AgentPhase::Ready | AgentPhase::Draining => Health::Ready,
        AgentPhase::Unassigned | AgentPhase::Loading => Health::NotReady,
        AgentPhase::Failed => Health::Broken { cause: status.error.clone() },
    }
}

fn sequences(status: &AgentStatus) -> u32 {
    let load = status.current.unwrap_or_default();
    load.sequences_running.saturating_add(load.sequences_waiting)
}

fn progress(status: &AgentStatus) -> u64 {
    let bytes = |progress: Option<proto::v1::LoadProgress>| {
        progress.map_or(0, |progress| progress.bytes_loaded)
    };
    bytes(status.fetch).saturating_add(bytes(status.load))
}

/// The inventory as the planner should see it: with the rollout's subject and the lost ones marked.
pub fn mark(inventory: &mut Inventory, memory: &RolloutMemory, losses: &Losses, reports: &Reports) {
    for agent in losses.lost.keys() {
        if let Some(facts) = inventory.agents.get_mut(agent)
            && facts.state != AgentState::Leaving
        {
            facts.state = AgentState::Lost;
        }
    }
    let Some(subject) = &memory.subject else { return };
    let Some(facts) = inventory.agents.get_mut(&subject.agent) else { return };
    let status = reports.get(&subject.agent).and_then(Report::status);
    // The old process, which is about to go.
    let drained = status.is_some_and(|status| status.phase() == AgentPhase::Draining);
    facts.state = match (subject.stage, subject.experts, facts.state) {
        (Stage::Evacuating, _, AgentState::Running) => AgentState::Leaving,
        // Given back now, they would be where nobody can use them in a moment.
        (Stage::Draining, Experts::Moved, AgentState::Running) => AgentState::Leaving,
        (Stage::Draining | Stage::DrainingAlone, _, AgentState::Running) => AgentState::Draining,
        (Stage::Returning, Experts::Moved, AgentState::Running) if drained => AgentState::Leaving,
        (Stage::Returning, Experts::Moved, AgentState::Restarting) => AgentState::Lost,
        (_, _, state) => state,
    };
}

/// What people should know of a rollout.
pub fn reasons(
    step: &Step,
    views: &BTreeMap<AgentId, AgentView>,
    refused: &BTreeMap<AgentId, String>,
) -> Vec<Reason> {
    let needing: BTreeSet<&AgentId> =
        views.iter().filter(|(_, view)| view.needs_restart).map(|(agent, _)| agent).collect();
    let outdated = u32::try_from(needing.len()).unwrap_or(u32::MAX);
    let mut reasons: Vec<Reason> = refused
        .iter()
        .map(|(agent, cause)| Reason::AgentNeedsRestart {
            agent: agent.clone(),
            cause: cause.clone(),
        })
        .collect();
    match step {
        Step::Drain(agent) | Step::Evacuate(agent) => {
            let sequences = views.get(agent).map_or(0, |view| view.sequences);
            reasons.push(Reason::AgentDraining { agent: agent.clone(), sequences });
        }
        Step::Wait(waiting) => {
            reasons.push(Reason::RolloutWaits { outdated, waiting: waiting.clone() });
        }
        Step::Stopped(stopped) => {
            reasons.push(Reason::RolloutStopped { outdated, stopped: stopped.clone() });
        }
        Step::Done | Step::Restart(_) => {}
    }
    reasons
}
