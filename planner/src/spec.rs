//! What a person asked for, already checked: the planner's first input.

use crate::cost::Price;
use crate::engine::EngineRequest;
use crate::identity::DeploymentName;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// What a person asked for, every default filled in. The model's facts may not be known yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    pub name: DeploymentName,
    pub source: ModelSource,
    pub facts: FactsFrom,
    pub agents: ReplicaRange,
    pub routers: ReplicaRange,
    /// Copies of each routed expert, on different hosts.
    pub copies: NonZeroU32,
    pub engine: EngineRequest,
    pub scaling: Scaling,
    /// `None`: cost is not computed.
    pub price: Option<Price>,
}

impl Goal {
    /// The specification to plan for, once facts, settings and the number of agents are known.
    pub fn spec(&self, agents: u32, model: ModelFacts, engine: EngineSettings) -> ServingSpec {
        ServingSpec {
            name: self.name.clone(),
            source: self.source.clone(),
            model,
            agents,
            copies: self.copies,
            engine,
        }
    }
}

/// Who knows the model's facts.
#[derive(Clone, Debug, PartialEq)]
pub enum FactsFrom {
    /// The caller has read them.
    Caller(Box<ModelFacts>),
    /// Agents report them before their first assignment; the first one's are taken and kept in the plan.
    Agents,
}

/// How autoscaling decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Nine of ten requests should see their first token, and each further one, within these.
    pub time_to_first_token: Duration,
    pub time_per_output_token: Duration,
    /// How long a smaller pool must have been enough before agents go.
    pub scale_down_delay: Duration,
    /// How long no request may have come before the last agent goes; only with a minimum of no agents.
    pub sleep_after: Duration,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            time_to_first_token: Duration::from_secs(2),
            time_per_output_token: Duration::from_millis(50),
            scale_down_delay: Duration::from_secs(300),
            sleep_after: Duration::from_secs(600),
        }
    }
}

/// One model deployment with everything known: what one plan is made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServingSpec {
    pub name: DeploymentName,
    pub source: ModelSource,
    pub model: ModelFacts,
    /// Agents that there should be now.
    pub agents: u32,
    /// Copies of each routed expert, on different hosts.
    pub copies: NonZeroU32,
    pub engine: EngineSettings,
}

/// How many agents or routers there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRange {
    pub min: u32,
    pub max: u32,
}

impl ReplicaRange {
    /// Exactly that many.
    pub fn exactly(replicas: u32) -> Self {
        Self { min: replicas, max: replicas }
    }

    /// The nearest allowed number.
    pub fn clamp(&self, replicas: u32) -> u32 {
        replicas.min(self.max).max(self.min)
    }
}

/// How many agents there may be.
pub type AgentRange = ReplicaRange;

/// Where agents find the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ModelSource {
    /// A folder that every agent can read.
    Directory(String),
    /// What each agent fetches by itself.
    Remote { uri: String, revision: String },
}

/// What the planner must know of a checkpoint; read from its configuration and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Agents with equal ones may exchange rows and continue each other's sequences; empty: not compared.
    pub fingerprint: String,
    /// Layers with routed experts, ascending; empty for a dense model.
    pub moe_layers: Vec<u32>,
    /// Routed experts in each of those layers.
    pub experts_per_layer: u32,
    /// Memory of everything but the routed experts, held by every agent, in bytes.
    pub dense_bytes: u64,
    /// Memory of one routed expert, in bytes.
    pub expert_bytes: u64,
    /// The model's longest context in tokens.
    pub context_length_max: u32,
    /// KV cache of one token over all layers, in bytes.
    pub cache_token_bytes: u64,
    /// For people.
    pub architecture: String,
    /// What the source resolved to, for people.
    pub revision: String,
}

impl ModelFacts {
    /// Routed experts over all layers.
    pub fn experts(&self) -> u64 {
        self.moe_layers.len() as u64 * u64::from(self.experts_per_layer)
    }
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
    /// Tokens guessed ahead for a sequence in one step; plans of older versions have none.
    #[serde(default)]
    pub draft_tokens_max: u32,
}
