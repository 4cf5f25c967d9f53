//! Small specifications and inventories for the tests.

use planner::identity::{AgentId, DeploymentName, HostId};
use planner::inventory::{AgentFacts, AgentState, Inventory};
use planner::spec::{EngineSettings, ModelFacts, ModelSource, ServingSpec};
use std::num::NonZeroU32;

pub const DENSE_BYTES: u64 = 1_000;
pub const KV_CACHE_BYTES: u64 = 500;
pub const EXPERT_BYTES: u64 = 10;

pub fn spec(layers: u32, experts: u32, copies: u32) -> ServingSpec {
    ServingSpec {
        name: DeploymentName::new("tiny"),
        source: ModelSource::Directory("/models/tiny".to_owned()),
        model: ModelFacts {
            fingerprint: "tiny-1".to_owned(),
            moe_layers: (1..=layers).collect(),
            experts_per_layer: experts,
            dense_bytes: DENSE_BYTES,
            expert_bytes: EXPERT_BYTES,
            context_length_max: 4_096,
            cache_token_bytes: 8,
            ..ModelFacts::default()
        },
        agents: 1,
        copies: NonZeroU32::new(copies).expect("copies start at one"),
        engine: EngineSettings {
            context_length: 512,
            step_tokens_max: 256,
            sequences_max: 16,
            queue_max: 64,
            kv_cache_bytes: KV_CACHE_BYTES,
            expert_deadline_ms: 250,
            kernel_path: "auto".to_owned(),
            draft_tokens_max: 2,
        },
    }
}

/// Memory with room for this many experts.
pub fn memory_for(experts: u64) -> u64 {
    DENSE_BYTES + KV_CACHE_BYTES + experts * EXPERT_BYTES
}

pub fn agent(name: &str) -> AgentId {
    AgentId::new(name)
}

pub fn facts(name: &str, host: &str, experts: u64) -> AgentFacts {
    AgentFacts {
        host: HostId::new(host),
        address: format!("{name}:7000"),
        memory_bytes: memory_for(experts),
        state: AgentState::Running,
    }
}

/// Agents `agent-0…`, each on a host of its own, each with room for `experts`.
pub fn inventory(count: usize, experts: u64) -> Inventory {
    let mut inventory = Inventory::default();
    for index in 0..count {
        let name = format!("agent-{index}");
        let facts = facts(&name, &format!("host-{index}"), experts);
        inventory.agents.insert(agent(&name), facts);
    }
    inventory
}
