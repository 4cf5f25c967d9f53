//! The status that people read.

use crate::reason::Reason;
use crate::substrate::Instance;
use planner::cost::Cost;
use planner::identity::{AgentId, Generation};
use planner::scale::ScaleChange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A deployment as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    pub phase: Phase,
    /// Everything that keeps it from being what was asked for; empty when nothing does.
    pub reasons: Vec<Reason>,
    /// Where clients send requests.
    pub url: Option<String>,
    pub agents: AgentCounts,
    pub routers: RouterCounts,
    pub experts: ExpertCounts,
    /// Generated tokens a second over all agents, mean of the last seconds.
    pub tokens_per_second: f64,
    /// `None` without a price.
    pub cost: Option<Cost>,
    /// What the last decisions on numbers changed; empty when the last round changed none.
    pub scaled: Vec<ScaleChange>,
    pub plan: PlanStatus,
    pub agent_details: Vec<AgentDetail>,
}

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing has been given to agents yet.
    Pending,
    /// Agents load their share for the first time.
    Loading,
    /// All agents, all copies, and a router that takes requests.
    Available,
    /// It was available and lost something; it serves, or waits for what is being replaced.
    Degraded,
    /// No agent runs because no request came for long; the next one wakes it.
    Sleeping,
    /// It does not serve and will not by waiting.
    Failed,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pending => "Pending",
            Self::Loading => "Loading",
            Self::Available => "Available",
            Self::Degraded => "Degraded",
            Self::Sleeping => "Sleeping",
            Self::Failed => "Failed",
        })
    }
}

/// Agents, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCounts {
    pub ready: u32,
    pub desired: u32,
    /// Agents that run with what is wanted now, and with something older.
    pub updated: u32,
    pub outdated: u32,
}

/// Routers, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterCounts {
    /// They know the homes of the plan and reach at least one.
    pub ready: u32,
    pub desired: u32,
}

/// Routed experts of all layers, counted by what agents report to hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpertCounts {
    /// Held by at least one agent.
    pub placed: u32,
    /// Held by none.
    pub missing: u32,
    /// The fewest copies that any expert has; 0 for a model without experts.
    pub copies: u32,
    /// The fewest copies that the plan gives any expert.
    pub copies_planned: u32,
}

/// The plan in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStatus {
    /// `None` before the first plan.
    pub generation: Option<Generation>,
    /// Of everything in the plan but its number; empty before the first plan.
    pub hash: String,
    /// Of the model that the plan is for; empty when it is not known.
    pub fingerprint: String,
    /// As config.json names it; empty when it is not known.
    #[serde(default)]
    pub architecture: String,
    /// What the source's revision was when it was read; empty for sources without.
    #[serde(default)]
    pub revision: String,
    /// Longest sequence in tokens; 0 before the first plan.
    pub context_length: u32,
}

/// One agent as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentDetail {
    pub agent: AgentId,
    pub instance: Option<Instance>,
    pub address: Option<String>,
    pub condition: AgentCondition,
    /// The plan it holds.
    pub generation: Option<Generation>,
    pub bytes_loaded: u64,
    pub bytes_total: u64,
    /// Layer → experts in memory, ascending.
    pub resident: BTreeMap<u32, Vec<u32>>,
    pub kernel_path: String,
    pub sequences_running: u32,
    pub sequences_waiting: u32,
    pub tokens_per_second: f64,
}

/// One agent's state, the substrate's and its own word together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentCondition {
    Starting,
    Restarting,
    Silent,
    /// It was silent for so long that others took its experts over.
    Lost,
    Unassigned,
    Loading,
    Ready,
    Draining,
    Failed,
}

impl fmt::Display for AgentCondition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Starting => "starting",
            Self::Restarting => "restarting",
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::Unassigned => "unassigned",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed => "failed",
        })
    }
}
