//! How many agents and routers there should be: load and what was decided before → wanted numbers, and why.
//!
//! Up is quick and down is slow. An agent counts as capacity once it is ready; while one is coming no further one is
//! asked for. Agents go only when the smaller pool would hold the present load with room to spare, for the whole
//! delay. A report that is missing says nothing, least of all that there is no load.

mod agents;
mod routers;
mod why;

pub use why::{ScaleChange, Scaled, Why};

use crate::identity::AgentId;
use crate::moment::Moment;
use crate::room::Room;
use crate::spec::{EngineSettings, ModelFacts, ReplicaRange, Scaling};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a decision is made from.
#[derive(Clone, Debug)]
pub struct ScaleInput<'a> {
    pub now: Moment,
    pub agents: ReplicaRange,
    pub routers: ReplicaRange,
    pub scaling: &'a Scaling,
    /// Fewest agents that hold the model and its copies; 1 while the facts are not known.
    pub floor: u32,
    /// Sequences that one agent runs at once; 0 while it is not known.
    pub sequences_max: u32,
    pub signals: &'a Signals,
}

/// What agents and routers say of their load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// Every agent that was asked for and stays.
    pub agents: BTreeMap<AgentId, AgentSignal>,
    /// Agents that still hand over what they held.
    pub leaving: u32,
    /// Every router that there is, by any name.
    pub routers: BTreeMap<String, RouterSignal>,
}

/// What is known of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentSignal {
    Ready(AgentLoad),
    /// On its way up: it is no capacity yet.
    Coming,
    /// It is not expected to become ready by waiting.
    Failed,
    /// It should answer and does not.
    Missing,
}

/// The load of a ready agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentLoad {
    pub running: u32,
    pub waiting: u32,
    pub cache_used: u32,
    pub cache_total: u32,
    /// Generated, over the last seconds.
    pub tokens_per_second: u32,
}

/// What is known of one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterSignal {
    Heard(RouterLoad),
    /// It should answer and does not.
    Missing,
}

/// The load of a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterLoad {
    pub in_flight: u32,
    /// Requests among them that no home takes.
    pub held: u32,
    /// What the percentiles were measured over.
    pub window: Duration,
    /// `None`: nothing was measured.
    pub first_token_p90: Option<Duration>,
    pub output_token_p90: Option<Duration>,
    /// Since the last request was in flight.
    pub idle: Duration,
}

/// What was decided before, kept by the caller from one decision to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScaleMemory {
    pub agents: Track,
    pub routers: Track,
    /// When an agent was last on its way up: latencies measured before say nothing about the pool that there is now.
    pub coming_at: Option<Moment>,
    /// What one agent is known to do at most.
    pub capacity: Option<Capacity>,
}

/// Tokens a second of an agent in a pool that was short. Few sequences run on an agent until it is nearly full, so
/// only this tells what a smaller pool would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub tokens_per_second: u32,
    pub at: Moment,
}

impl ScaleMemory {
    /// Begins with what there is.
    pub fn starting_at(agents: u32, routers: u32) -> Self {
        let track = |wanted| Track { wanted, ..Track::default() };
        Self { agents: track(agents), routers: track(routers), ..Self::default() }
    }
}

/// One number through time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    pub wanted: u32,
    /// Since when more would be better, without a break.
    pub short_since: Option<Moment>,
    /// What waited then: a queue that shrinks needs only time.
    pub short_with: u32,
    /// Since when fewer would do, without a break, and the most that would have been needed since.
    pub ample_since: Option<Moment>,
    pub ample_with: u32,
}

impl Track {
    /// Takes note that `needed` would do now. When that is fewer than wanted, and has been without a break: the most
    /// that was needed meanwhile, and for how long.
    fn ample_for(&mut self, now: Moment, needed: u32) -> Option<(u32, Duration)> {
        if needed >= self.wanted {
            self.ample_since = None;
            return None;
        }
        let most = if self.ample_since.is_some() { self.ample_with.max(needed) } else { needed };
        self.ample_with = most;
        let since = *self.ample_since.get_or_insert(now);
        Some((most, now.since(since)))
    }
}

/// Decides on the numbers.
pub fn scale(input: &ScaleInput<'_>, memory: &ScaleMemory) -> Scaled {
    let mut next = memory.clone();
    let mut changes = Vec::new();
    changes.extend(agents::decide(input, &mut next));
    changes.extend(routers::decide(input, &mut next));
    Scaled { agents: next.agents.wanted, routers: next.routers.wanted, memory: next, changes }
}

/// Fewest agents that hold every expert as often as asked, when each may use `memory_bytes`; `None` when no number
/// does.
pub fn floor(
    model: &ModelFacts,
    engine: &EngineSettings,
    copies: u32,
    memory_bytes: u64,
) -> Option<u32> {
    let room = Room::new(memory_bytes, model, engine).experts?;
    let experts = model.experts();
    // No agent holds an expert twice.
    let each = room.min(experts);
    let by_memory = match experts {
        0 => 1,
        _ => experts.saturating_mul(u64::from(copies)).checked_div(each)?,
    };
    let short = each.saturating_mul(by_memory) < experts.saturating_mul(u64::from(copies));
    let by_memory = u32::try_from(by_memory + u64::from(short)).unwrap_or(u32::MAX);
    Some(by_memory.max(copies).max(1))
}
