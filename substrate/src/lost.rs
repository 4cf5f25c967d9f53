//! Who has not answered for so long that others should hold its experts. Time is an argument.

use crate::report::{Report, Reports};
use crate::substrate::Observed;
use planner::identity::AgentId;
use planner::inventory::AgentState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// An agent that is silent for this long is planned without. Shorter, and a busy machine or a short break of the
/// network would move experts for nothing; longer, and a second loss meets experts with one copy.
pub const LOST_AFTER: Duration = Duration::from_secs(20);
/// The same for one that is being replaced: a new process on a machine that has its image is back by then.
pub const REPLACED_AFTER: Duration = Duration::from_secs(30);
/// The same when its machine is known to be gone. Not at once, for machines are also declared gone in haste.
pub const GONE_AFTER: Duration = Duration::from_secs(3);

/// Silences through time.
#[derive(Debug, Default)]
pub struct Silences {
    since: BTreeMap<AgentId, Instant>,
    lost: BTreeSet<AgentId>,
}

/// What silences mean now.
#[derive(Debug, Default, PartialEq)]
pub struct Losses {
    /// Who is lost, and for how long each has been silent.
    pub lost: BTreeMap<AgentId, Duration>,
    /// Every planned agent is silent: more likely this process is cut off than that all of them are lost.
    pub all_silent: Option<u32>,
}

/// What silences are judged by.
#[derive(Debug)]
pub struct Listening<'a> {
    pub now: Instant,
    pub observed: &'a Observed,
    pub reports: &'a Reports,
    /// Agents of the plan in force.
    pub planned: &'a BTreeSet<AgentId>,
    /// An agent that was restarted on purpose; its return has a deadline of its own.
    pub returning: Option<&'a AgentId>,
}

impl Silences {
    /// Takes up what is heard now.
    pub fn judge(&mut self, heard: &Listening<'_>) -> Losses {
        let Listening { now, observed, reports, planned, returning } = heard;
        let known: BTreeSet<&AgentId> =
            observed.inventory.agents.keys().chain(&observed.starting).collect();
        let silent: BTreeSet<&AgentId> =
            known.iter().copied().filter(|agent| is_silent(agent, observed, reports)).collect();
        self.since.retain(|agent, _| silent.contains(agent));
        self.lost.retain(|agent| silent.contains(agent));
        for agent in &silent {
            self.since.entry(AgentId::clone(agent)).or_insert(*now);
        }
        let answers = planned.iter().any(|agent| known.contains(agent) && !silent.contains(agent));
        let overdue: Vec<(&AgentId, &Instant)> = self
            .since
            .iter()
            .filter(|(agent, since)| {
                // One on a machine that is gone may be missing from the plan of an operator that died before it could
                // replace it.
                let awaited = planned.contains(*agent) || observed.gone.contains(*agent);
                let concerns = awaited && Some(*agent) != *returning;
                concerns && now.duration_since(**since) >= grace(agent, observed)
            })
            .collect();
        if !answers && !planned.is_empty() && !overdue.is_empty() && self.lost.is_empty() {
            let agents = u32::try_from(planned.len()).unwrap_or(u32::MAX);
            return Losses { lost: BTreeMap::new(), all_silent: Some(agents) };
        }
        if answers {
            let overdue: Vec<AgentId> = overdue.iter().map(|(agent, _)| (*agent).clone()).collect();
            self.lost.extend(overdue);
        }
        let duration = |agent: &AgentId| {
            self.since.get(agent).map(|since| now.duration_since(*since)).unwrap_or_default()
        };
        let lost = self.lost.iter().map(|agent| (agent.clone(), duration(agent))).collect();
        Losses { lost, all_silent: None }
    }

    /// How long an agent has been silent.
    pub fn of(&self, agent: &AgentId, now: Instant) -> Option<Duration> {
        self.since.get(agent).map(|since| now.duration_since(*since))
    }
}

fn is_silent(agent: &AgentId, observed: &Observed, reports: &Reports) -> bool {
    let Some(facts) = observed.inventory.agents.get(agent) else { return true };
    match facts.state {
        AgentState::Restarting | AgentState::Lost => true,
        AgentState::Running | AgentState::Draining | AgentState::Leaving => {
            matches!(reports.get(agent), Some(Report::Silent { .. }))
        }
    }
}

fn grace(agent: &AgentId, observed: &Observed) -> Duration {
    if observed.gone.contains(agent) {
        return GONE_AFTER;
    }
    match observed.inventory.agents.get(agent).map(|facts| facts.state) {
        None | Some(AgentState::Restarting) => REPLACED_AFTER,
        Some(
            AgentState::Running | AgentState::Draining | AgentState::Leaving | AgentState::Lost,
        ) => LOST_AFTER,
    }
}
