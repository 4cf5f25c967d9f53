//! What is there: the planner's second input.

use crate::identity::{AgentId, ExpertId, HostId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Agents that exist or are being started, as observed by a substrate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    pub agents: BTreeMap<AgentId, AgentFacts>,
    /// Rows each expert served lately; an expert that is missing counts as average.
    #[serde(default)]
    pub expert_load: BTreeMap<ExpertId, u64>,
}

/// One agent as observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentFacts {
    pub host: HostId,
    /// host:port of its gRPC server.
    pub address: String,
    /// Memory it may use for weights and KV cache, in bytes.
    pub memory_bytes: u64,
    pub state: AgentState,
}

/// Whether an agent may be given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentState {
    /// Its process runs; it may hold experts and be a home.
    Running,
    /// It is being replaced under the same name and comes back soon: it keeps its experts in the plan.
    Restarting,
    /// It is leaving: its experts go to others, it stays in the plan until they are covered.
    Leaving,
}
