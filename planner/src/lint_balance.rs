//! Lint's part on numbers: copies on hosts, even counts, even first choices. Bounds are those that no single move
//! can improve on, so a plan need not be the best one to be clean.

use crate::identity::{AgentId, ExpertId, HostId};
use crate::inventory::{AgentState, Inventory};
use crate::lint::Finding;
use crate::plan::Plan;
use crate::spec::ServingSpec;
use std::collections::{BTreeMap, BTreeSet};

/// One agent that stays, with what the plan gives it.
struct Stayer<'a> {
    host: &'a HostId,
    /// Experts it has memory for.
    room: u64,
    held: u64,
}

type Stayers<'a> = BTreeMap<&'a AgentId, Stayer<'a>>;
/// (layer, agent) → number.
type Counts<'a> = BTreeMap<(u32, &'a AgentId), u64>;

pub(crate) fn check(
    spec: &ServingSpec,
    inventory: &Inventory,
    plan: &Plan,
    findings: &mut Vec<Finding>,
) {
    let stayers = stayers(spec, inventory, plan);
    let possible = possible_copies(spec, &stayers);
    let known = |expert: &ExpertId| {
        spec.model.moe_layers.contains(&expert.layer)
            && expert.expert < spec.model.experts_per_layer
    };
    for (expert, agents) in plan.placement.iter().filter(|(expert, _)| known(expert)) {
        check_copies(spec, (*expert, agents), &stayers, possible, findings);
    }
    check_counts(spec, plan, &stayers, findings);
    check_first_choices(plan, &stayers, findings);
}

fn stayers<'a>(spec: &ServingSpec, inventory: &'a Inventory, plan: &'a Plan) -> Stayers<'a> {
    let mut held: BTreeMap<&AgentId, u64> = BTreeMap::new();
    for agent in plan.placement.values().flatten() {
        *held.entry(agent).or_default() += 1;
    }
    let stays = inventory
        .agents
        .iter()
        .filter(|(_, facts)| facts.state != AgentState::Leaving && facts.state != AgentState::Lost);
    stays
        .map(|(agent, facts)| {
            let cache = plan.settings_of(agent).kv_cache_bytes;
            let fixed = spec.model.dense_bytes.saturating_add(cache);
            let free = facts.memory_bytes.saturating_sub(fixed);
            let room = free.checked_div(spec.model.expert_bytes).unwrap_or(u64::MAX);
            let held = held.get(agent).copied().unwrap_or(0);
            (agent, Stayer { host: &facts.host, room, held })
        })
        .collect()
}

/// Copies of every expert that the stayers' number and memory allow, at most those asked for.
fn possible_copies(spec: &ServingSpec, stayers: &Stayers<'_>) -> u64 {
    let experts = spec.model.moe_layers.len() as u64 * u64::from(spec.model.experts_per_layer);
    let room = stayers.values().map(|it| it.room.min(experts)).fold(0, u64::saturating_add);
    let by_memory = room.checked_div(experts).unwrap_or(u64::MAX);
    u64::from(spec.copies.get()).min(stayers.len() as u64).min(by_memory)
}

fn check_copies(
    spec: &ServingSpec,
    (expert, agents): (ExpertId, &[AgentId]),
    stayers: &Stayers<'_>,
    possible: u64,
    findings: &mut Vec<Finding>,
) {
    let staying: Vec<&Stayer<'_>> = agents.iter().filter_map(|it| stayers.get(it)).collect();
    let copies = staying.len() as u64;
    let asked = spec.copies.get();
    if copies > u64::from(asked) {
        findings.push(Finding::TooManyCopies { expert, copies: staying.len(), asked });
    }
    let hosts: BTreeSet<&HostId> = staying.iter().map(|it| it.host).collect();
    let twice = |host: &&HostId| staying.iter().filter(|it| it.host == *host).count() > 1;
    let shared = hosts.iter().copied().find(twice);
    // The common case needs no search for room.
    if copies >= possible && shared.is_none() {
        return;
    }
    let roomy = |fits: &dyn Fn(&AgentId, &Stayer<'_>) -> bool| {
        let mut found = stayers.iter().filter(|(id, it)| it.held < it.room && fits(id, it));
        found.next().map(|(id, _)| AgentId::clone(id))
    };
    // An expert without any agent is a finding of its own.
    if copies < possible
        && !agents.is_empty()
        && let Some(roomy) = roomy(&|id, _| !agents.contains(id))
    {
        findings.push(Finding::TooFewCopies { expert, copies, possible, roomy });
    }
    if let Some(host) = shared
        && let Some(roomy) = roomy(&|_, it| !hosts.contains(it.host))
    {
        findings.push(Finding::HostsNotDisjoint { expert, host: host.clone(), roomy });
    }
}

/// An agent that holds less than its memory's and the average's share of a layer, while another holds two more there
/// and one of those could move without bringing copies onto one host.
fn check_counts(
    spec: &ServingSpec,
    plan: &Plan,
    stayers: &Stayers<'_>,
    findings: &mut Vec<Finding>,
) {
    let layers = (spec.model.moe_layers.len() as u64).max(1);
    let mut counts: Counts<'_> = BTreeMap::new();
    let mut copies = 0;
    for (expert, agents) in &plan.placement {
        for agent in agents.iter().filter(|agent| stayers.contains_key(agent)) {
            *counts.entry((expert.layer, agent)).or_default() += 1;
            copies += 1;
        }
    }
    let average = u64::checked_div(copies, stayers.len() as u64).unwrap_or(0);
    let count = |layer, agent| counts.get(&(layer, agent)).copied().unwrap_or(0);
    for layer in &spec.model.moe_layers {
        let layer = *layer;
        for (emptiest, idle) in stayers {
            let fewest = count(layer, emptiest);
            if idle.held >= idle.room || fewest + 1 > idle.room.min(average) / layers {
                continue;
            }
            let source = stayers.keys().find(|fullest| {
                count(layer, fullest) >= fewest + 2
                    && can_move(plan, stayers, layer, (fullest, emptiest))
            });
            if let Some(fullest) = source {
                let (most, fullest) = (count(layer, fullest), AgentId::clone(fullest));
                let emptiest = AgentId::clone(emptiest);
                findings.push(Finding::CountsUneven { layer, fullest, most, emptiest, fewest });
            }
        }
    }
}

fn can_move(
    plan: &Plan,
    stayers: &Stayers<'_>,
    layer: u32,
    (from, to): (&AgentId, &AgentId),
) -> bool {
    let host = |agent: &AgentId| stayers.get(agent).map(|it| it.host);
    of_layer(plan, layer).any(|(_, agents)| {
        agents.contains(from)
            && !agents.contains(to)
            && (host(from) == host(to) || agents.iter().all(|agent| host(agent) != host(to)))
    })
}

/// First choices of two holders of one expert differ by one at most, in every layer.
fn check_first_choices(plan: &Plan, stayers: &Stayers<'_>, findings: &mut Vec<Finding>) {
    let mut firsts: Counts<'_> = BTreeMap::new();
    for (expert, agents) in &plan.placement {
        if let Some(first) = agents.first() {
            *firsts.entry((expert.layer, first)).or_default() += 1;
        }
    }
    let mut found = BTreeMap::new();
    for (expert, agents) in &plan.placement {
        let layer = expert.layer;
        let count = |agent| firsts.get(&(layer, agent)).copied().unwrap_or(0);
        let Some((busiest, others)) = agents.split_first() else { continue };
        let staying = others.iter().filter(|agent| stayers.contains_key(agent));
        for idlest in staying.filter(|agent| count(*agent) + 2 <= count(busiest)) {
            let (most, fewest) = (count(busiest), count(idlest));
            found.insert((layer, busiest, idlest), (most, fewest));
        }
    }
    findings.extend(found.into_iter().map(|((layer, busiest, idlest), (most, fewest))| {
        let (busiest, idlest) = (busiest.clone(), idlest.clone());
        Finding::FirstChoicesUneven { layer, busiest, most, idlest, fewest }
    }));
}

fn of_layer(plan: &Plan, layer: u32) -> impl Iterator<Item = (&ExpertId, &Vec<AgentId>)> {
    let first = ExpertId { layer, expert: 0 };
    plan.placement.range(first..=ExpertId { layer, expert: u32::MAX })
}
