//! A plan: everything one generation of a deployment needs. Complete, immutable, numbered.

use crate::identity::{AgentId, DeploymentName, ExpertId, Generation, HostId};
use crate::spec::EngineSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One generation of a deployment; applying it takes no further choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub generation: Generation,
    /// The generation it was made from; `None` for the first.
    pub parent: Option<Generation>,
    pub deployment: DeploymentName,
    pub model_source: String,
    pub agents: BTreeMap<AgentId, PlannedAgent>,
    /// For every routed expert, the agents that hold a copy, in order of preference.
    pub placement: BTreeMap<ExpertId, Vec<AgentId>>,
    pub engine: EngineSettings,
}

/// One agent's place in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedAgent {
    pub host: HostId,
    pub address: String,
    pub role: AgentRole,
}

/// Whether the router may send new sequences to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentRole {
    /// Home of sequences and holder of experts.
    Home,
    /// Holder of experts only, because it is restarting or leaving.
    ExpertsOnly,
}
