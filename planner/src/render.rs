//! A plan as text for people and golden tests.

use crate::identity::AgentId;
use crate::plan::{AgentRole, Plan};
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// Displays a plan: its agents, then for every layer who holds which experts (`*` marks first choices).
#[derive(Debug)]
pub struct Rendered<'plan>(pub &'plan Plan);

impl Display for Rendered<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(plan) = self;
        let parent = plan.parent.map(|parent| format!(" after {}", parent.0)).unwrap_or_default();
        writeln!(out, "plan {}{parent} of {}", plan.generation.0, plan.deployment)?;
        for (agent, planned) in &plan.agents {
            let role = match planned.role {
                AgentRole::Home => "home",
                AgentRole::ExpertsOnly => "experts only",
            };
            let count = plan.placement.values().filter(|agents| agents.contains(agent)).count();
            writeln!(out, "  {agent} on {}: {role}, {count} experts", planned.host)?;
        }
        for (layer, agents) in holdings(plan) {
            writeln!(out, "  layer {layer}")?;
            for (agent, experts) in agents {
                writeln!(out, "    {agent}: {}", experts.join(" "))?;
            }
        }
        Ok(())
    }
}

fn holdings(plan: &Plan) -> BTreeMap<u32, BTreeMap<&AgentId, Vec<String>>> {
    let mut layers: BTreeMap<u32, BTreeMap<&AgentId, Vec<String>>> = BTreeMap::new();
    for (expert, agents) in &plan.placement {
        for (rank, agent) in agents.iter().enumerate() {
            let mark = if rank == 0 { "*" } else { "" };
            let held = layers.entry(expert.layer).or_default().entry(agent).or_default();
            held.push(format!("{}{mark}", expert.expert));
        }
    }
    layers
}
