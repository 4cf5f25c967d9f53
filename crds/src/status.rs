//! What the operator says back. Everything may be absent: the status starts empty, and another version's must be
//! readable.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most entries of `agentDetails`: a page; metrics have the rest.
pub const AGENT_DETAILS_MAX: usize = 32;
/// Longest message of an agent or a rollout; the rest is in the agent's log.
pub const MESSAGE_LENGTH_MAX: usize = 1_024;

/// What is, as the operator last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The conditions in one word, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Accepted: the spec and what it names can be used. Fits: the agents have room for the model. Progressing: Boyle
    /// is changing something. Available: requests are answered. Degraded: something is lost or broken, and which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The metadata.generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Base URL for clients inside the cluster; the OpenAI API is below it at /v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The agents, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentsStatus>,
    /// The routers, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routers: Option<RoutersStatus>,
    /// The routed experts of all layers, counted by what agents hold in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertsStatus>,
    /// Answer tokens a second over all agents, rounded so that it changes only when the load does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<String>,
    /// Measured cost of a million tokens, prompt and answer together, idle time included, with its currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_million_tokens: Option<String>,
    /// The plan in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// The image that agents and routers run while spec.image is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The model as agents read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// Label selector of the agents' pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Agents that are not ready, the worst first; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = AGENT_DETAILS_MAX))]
    pub agent_details: Vec<AgentDetail>,
    /// The rolling change that is under way, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// A deployment in one word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// Nothing has been given to agents yet.
    Pending,
    /// Agents load the model for the first time.
    Loading,
    /// Everything that was asked for is there.
    Available,
    /// It serves while agents are replaced, added or taken away on purpose.
    Updating,
    /// It lost something; it serves, or waits for what is being replaced.
    Degraded,
    /// No agent runs because nobody asks; the next request wakes one.
    Asleep,
    /// Agents start for a request that waits.
    Waking,
    /// It does not serve and will not by waiting.
    Failed,
    /// Another version's word.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants' names are the words.
        fmt::Debug::fmt(self, formatter)
    }
}

/// Agents, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentsStatus {
    /// Agents that hold all of their share and answer.
    pub ready: u32,
    /// Agents that there should be now, between spec.agents.min and max.
    pub desired: u32,
    /// Both, as "3/4".
    pub summary: String,
}

impl AgentsStatus {
    /// Writes the summary.
    pub fn new(ready: u32, desired: u32) -> Self {
        Self { ready, desired, summary: format!("{ready}/{desired}") }
    }
}

/// Routers, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoutersStatus {
    /// Routers that take requests.
    pub ready: u32,
    /// Routers that there should be now, between spec.router.min and max.
    pub desired: u32,
}

/// Routed experts of all layers, counted by what agents hold in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpertsStatus {
    /// Held by at least one agent.
    pub placed: u32,
    /// Held by none; requests that need one wait.
    pub missing: u32,
    /// The fewest copies that any expert has.
    pub copies: u32,
    /// All three, as "64/64 ×2".
    pub summary: String,
}

impl ExpertsStatus {
    /// Writes the summary.
    pub fn new(placed: u32, missing: u32, copies: u32) -> Self {
        let summary = format!("{placed}/{} ×{copies}", placed.saturating_add(missing));
        Self { placed, missing, copies, summary }
    }
}

/// The plan in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Rises with every plan; agents refuse older ones.
    pub generation: i64,
    /// Of the plan's content: equal hashes, equal plans.
    pub hash: String,
}

/// The model as agents read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Of the weights, configuration and tokeniser: agents with another one take no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The commit that spec.model.revision was when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The architecture that config.json names, for example "DeepseekV3ForCausalLM".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Longest sequence in tokens that is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
}

/// One agent that is not ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentDetail {
    /// The agent's pod.
    pub name: String,
    /// Where it runs; absent before it is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its state in one word, for example "loading" or "lost".
    pub condition: String,
    /// Why, with the remedy if there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MESSAGE_LENGTH_MAX))]
    pub message: String,
}

/// A rolling change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Agents that are as the spec says.
    pub updated: u32,
    /// Agents in all.
    pub total: u32,
    /// What happens now, or what it waits for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MESSAGE_LENGTH_MAX))]
    pub message: String,
}
