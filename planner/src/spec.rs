//! What a person asked for, already checked: the planner's first input.

use crate::identity::DeploymentName;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// One model deployment, every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServingSpec {
    pub name: DeploymentName,
    pub model: ModelFacts,
    pub agents: AgentRange,
    /// Copies of each routed expert, on different hosts.
    pub copies: NonZeroU32,
    pub engine: EngineSettings,
}

/// How many agents there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRange {
    pub min: u32,
    pub max: u32,
}

/// What the planner must know of a checkpoint; read from its config and headers by whoever calls the planner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Folder or URL of the checkpoint, passed through to the agents.
    pub source: String,
    /// Layers with routed experts, ascending; empty for a dense model.
    pub moe_layers: Vec<u32>,
    /// Routed experts in each of those layers.
    pub experts_per_layer: u32,
    /// Memory of everything but the routed experts, held by every agent, in bytes.
    pub dense_bytes: u64,
    /// Memory of one routed expert, in bytes.
    pub expert_bytes: u64,
}

/// Settings passed through to every agent's engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSettings {
    pub context_length: u32,
    pub step_tokens_max: u32,
    pub sequences_max: u32,
    pub queue_max: u32,
    pub kv_cache_bytes: u64,
    pub expert_deadline_ms: u32,
    pub kernel_path: String,
}
