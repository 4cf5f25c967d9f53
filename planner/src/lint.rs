//! A second opinion on every plan. Shares no code with placement, so that one mistake is not made twice.

use crate::identity::{AgentId, ExpertId, Generation, HostId};
use crate::inventory::{AgentState, Inventory};
use crate::plan::{AgentRole, Plan};
use crate::spec::{EngineSettings, ModelFacts, ModelSource, ServingSpec};
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
    #[error("{0} may not be a home: it is draining, restarting or leaving")]
    HomeNotRunning(AgentId),
    #[error("{0} is planned although it is lost")]
    AgentLost(AgentId),
    #[error("{0} keeps older settings although its process is not outdated")]
    SettingsStale(AgentId),
    #[error("the plan is for {planned} and the specification for {asked}")]
    OtherModel { planned: String, asked: String },
    #[error("layer {} expert {} has two copies on host {host} although {roomy} elsewhere has room", .expert.layer, .expert.expert)]
    HostsNotDisjoint { expert: ExpertId, host: HostId, roomy: AgentId },
    #[error("layer {} expert {} has {copies} copies, more than the {asked} asked for", .expert.layer, .expert.expert)]
    TooManyCopies { expert: ExpertId, copies: usize, asked: u32 },
    #[error("layer {} expert {} has {copies} of {possible} copies although {roomy} has room", .expert.layer, .expert.expert)]
    TooFewCopies { expert: ExpertId, copies: u64, possible: u64, roomy: AgentId },
    #[error(
        "in layer {layer} {fullest} holds {most} experts and {emptiest}, which has room, {fewest}"
    )]
    CountsUneven { layer: u32, fullest: AgentId, most: u64, emptiest: AgentId, fewest: u64 },
    #[error(
        "in layer {layer} {busiest} is first choice of {most} experts and {idlest}, which holds one of them, of {fewest}"
    )]
    FirstChoicesUneven { layer: u32, busiest: AgentId, most: u64, idlest: AgentId, fewest: u64 },
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
    check_model(spec, plan, &mut findings);
    check_experts(spec, plan, &mut findings);
    check_agents(inventory, plan, &mut findings);
    check_agents_of_copies(plan, &mut findings);
    check_memory(spec, inventory, plan, &mut findings);
    crate::lint_balance::check(spec, inventory, plan, &mut findings);
    check_generation(plan, previous, &mut findings);
    findings
}

fn check_model(spec: &ServingSpec, plan: &Plan, findings: &mut Vec<Finding>) {
    if plan.facts != spec.model || plan.source != spec.source {
        let name = |source: &ModelSource, facts: &ModelFacts| match source {
            ModelSource::Directory(path) => format!("{path} ({})", facts.fingerprint),
            ModelSource::Remote { uri, revision } => {
                format!("{uri} at {revision:?} ({})", facts.fingerprint)
            }
        };
        findings.push(Finding::OtherModel {
            planned: name(&plan.source, &plan.facts),
            asked: name(&spec.source, &spec.model),
        });
    }
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
        if observed.state == AgentState::Lost {
            findings.push(Finding::AgentLost(agent.clone()));
        }
        if planned.keeps.is_some() && !inventory.outdated.contains(agent) {
            findings.push(Finding::SettingsStale(agent.clone()));
        }
    }
}

fn check_agents_of_copies(plan: &Plan, findings: &mut Vec<Finding>) {
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
    }
}

fn needed_bytes(model: &ModelFacts, engine: &EngineSettings, experts: u64) -> u64 {
    experts
        .saturating_mul(model.expert_bytes)
        .saturating_add(model.dense_bytes)
        .saturating_add(engine.kv_cache_bytes)
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
        let needed = needed_bytes(&spec.model, plan.settings_of(agent), experts);
        // A leaving agent holds what an earlier plan gave it, perhaps under other settings.
        let stays = match facts.state {
            AgentState::Running | AgentState::Draining | AgentState::Restarting => true,
            AgentState::Leaving | AgentState::Lost => false,
        };
        if stays && needed > facts.memory_bytes {
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
