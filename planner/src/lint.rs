//! A second opinion on every plan. Shares no code with placement, so that one mistake is not made twice.

use crate::identity::{AgentId, ExpertId, Generation, HostId};
use crate::inventory::{AgentState, Inventory};
use crate::plan::{AgentRole, Plan};
use crate::spec::ServingSpec;
use std::collections::{BTreeMap, BTreeSet};

/// Something that is wrong with a plan; a plan with findings is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("layer {} expert {} has no agent", .0.layer, .0.expert)]
    ExpertUnplaced(ExpertId),
    #[error("layer {} expert {} is not in the model", .0.layer, .0.expert)]
    ExpertUnknown(ExpertId),
    #[error("layer {} expert {} is placed on {agent} twice", .expert.layer, .expert.expert)]
    CopyTwiceOnAgent { expert: ExpertId, agent: AgentId },
    #[error("layer {} expert {} is placed on {agent}, which the plan does not have", .expert.layer, .expert.expert)]
    AgentNotPlanned { expert: ExpertId, agent: AgentId },
    #[error("{0} is planned and not in the inventory")]
    AgentNotThere(AgentId),
    #[error("{agent} is planned at {planned} and is at {observed}")]
    AddressStale { agent: AgentId, planned: String, observed: String },
    #[error("{0} may not be a home: it is restarting or leaving")]
    HomeNotRunning(AgentId),
    #[error("layer {} expert {} has all copies on host {host} although {roomy} elsewhere has room", .expert.layer, .expert.expert)]
    HostsNotDisjoint { expert: ExpertId, host: HostId, roomy: AgentId },
    #[error("layer {} expert {} has {copies} copies, more than the {asked} asked for", .expert.layer, .expert.expert)]
    TooManyCopies { expert: ExpertId, copies: usize, asked: u32 },
    #[error("{agent} needs {needed} B and has {memory} B")]
    OverMemory { agent: AgentId, needed: u64, memory: u64 },
    #[error("generation {new} does not follow {old}")]
    GenerationDoesNotFollow { old: u64, new: u64 },
    #[error("generation {0} differs from the plan of the same number")]
    SameNumberOtherContent(u64),
}

/// Checks a plan against what it was made from. An empty answer is a clean plan.
pub fn lint(
    spec: &ServingSpec,
    inventory: &Inventory,
    plan: &Plan,
    previous: Option<&Plan>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_experts(spec, plan, &mut findings);
    check_agents(inventory, plan, &mut findings);
    check_copies(spec, inventory, plan, &mut findings);
    check_memory(spec, inventory, plan, &mut findings);
    check_generation(plan, previous, &mut findings);
    findings
}

fn check_experts(spec: &ServingSpec, plan: &Plan, findings: &mut Vec<Finding>) {
    let mut expected = BTreeSet::new();
    for layer in &spec.model.moe_layers {
        for expert in 0..spec.model.experts_per_layer {
            expected.insert(ExpertId { layer: *layer, expert });
        }
    }
    let placed: BTreeSet<_> = plan.placement.keys().copied().collect();
    findings.extend(expected.difference(&placed).map(|id| Finding::ExpertUnplaced(*id)));
    findings.extend(placed.difference(&expected).map(|id| Finding::ExpertUnknown(*id)));
    let empty = plan.placement.iter().filter(|(_, agents)| agents.is_empty());
    findings.extend(empty.map(|(id, _)| Finding::ExpertUnplaced(*id)));
}

fn check_agents(inventory: &Inventory, plan: &Plan, findings: &mut Vec<Finding>) {
    for (agent, planned) in &plan.agents {
        let Some(observed) = inventory.agents.get(agent) else {
            findings.push(Finding::AgentNotThere(agent.clone()));
            continue;
        };
        if observed.address != planned.address {
            findings.push(Finding::AddressStale {
                agent: agent.clone(),
                planned: planned.address.clone(),
                observed: observed.address.clone(),
            });
        }
        if planned.role == AgentRole::Home && observed.state != AgentState::Running {
            findings.push(Finding::HomeNotRunning(agent.clone()));
        }
    }
}

fn check_copies(
    spec: &ServingSpec,
    inventory: &Inventory,
    plan: &Plan,
    findings: &mut Vec<Finding>,
) {
    let staying = |agent: &AgentId| {
        inventory.agents.get(agent).filter(|facts| facts.state != AgentState::Leaving)
    };
    for (expert, agents) in &plan.placement {
        let expert = *expert;
        let mut seen = BTreeSet::new();
        for agent in agents {
            if !seen.insert(agent) {
                findings.push(Finding::CopyTwiceOnAgent { expert, agent: agent.clone() });
            }
            if !plan.agents.contains_key(agent) {
                findings.push(Finding::AgentNotPlanned { expert, agent: agent.clone() });
            }
        }
        let copies: Vec<_> = agents.iter().filter_map(staying).map(|facts| &facts.host).collect();
        if copies.len() > spec.copies.get() as usize {
            let (copies, asked) = (copies.len(), spec.copies.get());
            findings.push(Finding::TooManyCopies { expert, copies, asked });
        }
        let Some(host) = copies.first().filter(|_| copies.len() > 1) else { continue };
        if copies.iter().all(|other| other == host)
            && let Some(roomy) = roomy_elsewhere(spec, inventory, plan, host)
        {
            findings.push(Finding::HostsNotDisjoint { expert, host: (*host).clone(), roomy });
        }
    }
}

/// An agent on another host that stays and has memory for one more expert.
fn roomy_elsewhere(
    spec: &ServingSpec,
    inventory: &Inventory,
    plan: &Plan,
    host: &HostId,
) -> Option<AgentId> {
    let elsewhere = inventory
        .agents
        .iter()
        .filter(|(_, facts)| facts.state != AgentState::Leaving && facts.host != *host);
    let roomy = elsewhere.filter(|(agent, facts)| {
        let held = plan.placement.values().filter(|agents| agents.contains(agent)).count() as u64;
        needed_bytes(spec, held.saturating_add(1)) <= facts.memory_bytes
    });
    roomy.map(|(agent, _)| agent.clone()).next()
}

fn needed_bytes(spec: &ServingSpec, experts: u64) -> u64 {
    experts
        .saturating_mul(spec.model.expert_bytes)
        .saturating_add(spec.model.dense_bytes)
        .saturating_add(spec.engine.kv_cache_bytes)
}

fn check_memory(
    spec: &ServingSpec,
    inventory: &Inventory,
    plan: &Plan,
    findings: &mut Vec<Finding>,
) {
    let mut held: BTreeMap<&AgentId, u64> = BTreeMap::new();
    for agent in plan.placement.values().flatten() {
        *held.entry(agent).or_default() += 1;
    }
    for (agent, facts) in &inventory.agents {
        let experts = held.get(agent).copied().unwrap_or(0);
        let needed = needed_bytes(spec, experts);
        // A leaving agent holds what an earlier plan gave it, perhaps under other settings.
        if facts.state != AgentState::Leaving && needed > facts.memory_bytes {
            let memory = facts.memory_bytes;
            findings.push(Finding::OverMemory { agent: agent.clone(), needed, memory });
        }
    }
}

fn check_generation(plan: &Plan, previous: Option<&Plan>, findings: &mut Vec<Finding>) {
    let Some(previous) = previous else { return };
    let (Generation(old), Generation(new)) = (previous.generation, plan.generation);
    if new == old {
        if plan != previous {
            findings.push(Finding::SameNumberOtherContent(new));
        }
        return;
    }
    if new != old.saturating_add(1) || plan.parent != Some(previous.generation) {
        findings.push(Finding::GenerationDoesNotFollow { old, new });
    }
}
