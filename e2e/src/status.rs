//! What `boyle status --json` prints, as far as tests read it.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// One deployment.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub phase: String,
    pub url: Option<String>,
    pub agents: Agents,
    pub experts: Experts,
    pub agent_details: Vec<Agent>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Agents {
    pub ready: usize,
    pub desired: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Experts {
    pub placed: usize,
    pub missing: usize,
    /// The fewest copies of any expert in memory.
    pub copies: usize,
    pub copies_planned: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    pub agent: String,
    pub instance: Option<Instance>,
    pub condition: String,
    /// Layer → experts in memory.
    pub resident: BTreeMap<u32, BTreeSet<u32>>,
    pub sequences_running: usize,
    pub sequences_waiting: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Instance {
    Process { pid: u32 },
    Pod { name: String },
}

impl Status {
    /// Everything is there: the agents and every copy.
    pub fn is_whole(&self) -> bool {
        let Experts { missing, copies, copies_planned, .. } = self.experts;
        self.phase == "Available"
            && self.agents.ready == self.agents.desired
            && missing == 0
            && copies == copies_planned
            && copies > 0
    }

    /// Each running agent's name and process.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let pids = self.agent_details.iter().filter_map(|agent| match agent.instance {
            Some(Instance::Process { pid }) => Some((agent.agent.clone(), pid)),
            Some(Instance::Pod { .. }) | None => None,
        });
        pids.collect()
    }

    /// How many agents hold each (layer, expert).
    pub fn copies(&self) -> BTreeMap<(u32, u32), usize> {
        let mut copies = BTreeMap::new();
        for agent in &self.agent_details {
            for (layer, experts) in &agent.resident {
                for expert in experts {
                    *copies.entry((*layer, *expert)).or_default() += 1;
                }
            }
        }
        copies
    }
}
