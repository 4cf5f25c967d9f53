//! What is there: the planner's second input.

use crate::identity::{AgentId, ExpertId, HostId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Agents that exist or are being started, as observed by a substrate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    pub agents: BTreeMap<AgentId, AgentFacts>,
    /// Rows each expert served lately; an expert that is missing counts as average.
    #[serde(default)]
    pub expert_load: BTreeMap<ExpertId, u64>,
    /// Agents that run with something older than what is wanted now, and are to be restarted in their turn. Agents
    /// that are not up yet may be among them.
    #[serde(default)]
    pub outdated: BTreeSet<AgentId>,
}

/// One agent as observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentFacts {
    pub host: HostId,
    /// host:port of its gRPC server.
    pub address: String,
    /// Memory it may use for weights and KV cache, in bytes; 0 when only the agent itself knows.
    pub memory_bytes: u64,
    pub state: AgentState,
}

/// Whether an agent may be given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentState {
    /// Its process runs; it may hold experts and be a home.
    Running,
    /// It is about to be restarted: it holds its experts, and its sequences come to an end.
    Draining,
    /// It is being replaced under the same name and comes back soon: it keeps its experts in the plan.
    Restarting,
    /// It is leaving: its experts go to others, it stays in the plan until they are covered.
    Leaving,
    /// It has not answered for long, or its machine is gone: others hold its experts until it is back.
    Lost,
}

impl AgentState {
    /// Whether the agent stays: experts may be placed on it.
    pub fn holds_experts(self) -> bool {
        match self {
            Self::Running | Self::Draining | Self::Restarting => true,
            Self::Leaving | Self::Lost => false,
        }
    }
}
