//! What is known of one agent by gRPC.

use planner::identity::{AgentId, ExpertId, Generation};
use proto::v1::{AgentPhase, AgentStatus};
use std::collections::{BTreeMap, BTreeSet};

/// The latest word of or about each agent that is being watched.
pub type Reports = BTreeMap<AgentId, Report>;

/// The latest word of or about one agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The watcher has not heard anything yet.
    Awaited,
    /// What it said.
    Heard(Box<AgentStatus>),
    /// It does not answer.
    Silent { cause: String },
}

impl Report {
    /// Its own words, if there are any.
    pub fn status(&self) -> Option<&AgentStatus> {
        match self {
            Self::Heard(status) => Some(status),
            Self::Awaited | Self::Silent { .. } => None,
        }
    }

    /// Loaded and taking sequences.
    pub fn is_ready(&self) -> bool {
        self.status().is_some_and(|status| status.phase() == AgentPhase::Ready)
    }

    /// The generation it holds; `None` before its first assignment.
    pub fn generation(&self) -> Option<Generation> {
        let status = self.status()?;
        (status.phase() != AgentPhase::Unassigned).then_some(Generation(status.generation))
    }

    /// Experts it holds in memory.
    pub fn resident(&self) -> BTreeSet<ExpertId> {
        let layers = self.status().map(|status| status.resident.as_slice()).unwrap_or_default();
        layers
            .iter()
            .flat_map(|entry| {
                entry.experts.iter().map(|&expert| ExpertId { layer: entry.layer, expert })
            })
            .collect()
    }
}
