//! How many experts each agent has room for, and how many copies the agents together can hold.

use crate::identity::AgentId;
use crate::inventory::Inventory;
use crate::plan::Plan;
use crate::spec::{EngineSettings, ModelFacts, ServingSpec};
use std::collections::BTreeMap;
use std::fmt;

/// Room of one agent, with the arithmetic behind it (all in bytes but the last).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub memory_bytes: u64,
    pub dense_bytes: u64,
    pub kv_cache_bytes: u64,
    pub expert_bytes: u64,
    /// Routed experts that fit beside the dense weights and the KV cache; `None` when not even those do.
    pub experts: Option<u64>,
}

impl Room {
    /// Room of an agent that runs with these settings.
    pub fn new(memory_bytes: u64, model: &ModelFacts, engine: &EngineSettings) -> Self {
        let (dense_bytes, expert_bytes) = (model.dense_bytes, model.expert_bytes);
        let kv_cache_bytes = engine.kv_cache_bytes;
        let experts = memory_bytes
            .checked_sub(dense_bytes)
            .and_then(|rest| rest.checked_sub(kv_cache_bytes))
            .map(|rest| rest.checked_div(expert_bytes).unwrap_or(u64::MAX));
        Self { memory_bytes, dense_bytes, kv_cache_bytes, expert_bytes, experts }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_bytes, dense_bytes, kv_cache_bytes, expert_bytes, experts } = self;
        write!(
            formatter,
            "{memory_bytes} B memory - {dense_bytes} B dense weights - {kv_cache_bytes} B KV cache"
        )?;
        match experts {
            Some(experts) => write!(formatter, " = room for {experts} experts of {expert_bytes} B"),
            None => formatter.write_str(" leaves nothing for experts"),
        }
    }
}

/// Room of every agent that may hold experts: those that run or come back, not those that leave or are lost.
pub fn rooms(
    spec: &ServingSpec,
    inventory: &Inventory,
    previous: Option<&Plan>,
) -> BTreeMap<AgentId, Room> {
    inventory
        .agents
        .iter()
        .filter(|(_, facts)| facts.state.holds_experts())
        .map(|(agent, facts)| {
            let kept = kept_settings(spec, inventory, previous, agent);
            let engine = kept.as_ref().unwrap_or(&spec.engine);
            (agent.clone(), Room::new(facts.memory_bytes, &spec.model, engine))
        })
        .collect()
}

/// Settings that a running process keeps, because only a restart changes them and it has not had its own yet.
pub(crate) fn kept_settings(
    spec: &ServingSpec,
    inventory: &Inventory,
    previous: Option<&Plan>,
    agent: &AgentId,
) -> Option<EngineSettings> {
    let previous = previous.filter(|_| inventory.outdated.contains(agent))?;
    let planned = previous.agents.get(agent)?;
    let settings = planned.keeps.as_ref().unwrap_or(&previous.engine);
    (settings != &spec.engine).then(|| settings.clone())
}

/// Experts that the agents can hold together when each holds at most `experts` distinct ones.
pub fn room_together(rooms: &BTreeMap<AgentId, Room>, experts: u64) -> u64 {
    rooms.values().map(|room| room.experts.unwrap_or(0).min(experts)).fold(0, u64::saturating_add)
}
