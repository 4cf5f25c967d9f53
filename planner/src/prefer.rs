//! The order in which an expert's copies are asked, so that first choices spread evenly over the agents.

use crate::identity::{AgentId, ExpertId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Holders = BTreeMap<ExpertId, Vec<AgentId>>;

/// Orders each expert's holders. The previous order stands where it can; first choices are then evened out layer
/// by layer, which moves no weights.
pub fn order(placed: &Holders, previous: &Holders) -> Holders {
    let mut ordered: Holders = placed
        .iter()
        .map(|(expert, holders)| (*expert, keep_order(holders, previous.get(expert))))
        .collect();
    let layers: BTreeSet<u32> = placed.keys().map(|expert| expert.layer).collect();
    for layer in layers {
        let fresh = |expert: &ExpertId| !previous.contains_key(expert);
        spread_fresh(&mut ordered, layer, &fresh);
        // Each round lowers the sum of squared first choices, so this ends.
        while shift_one(&mut ordered, layer) {}
    }
    ordered
}

/// Holders that were there before in their old order, then the new ones.
fn keep_order(holders: &[AgentId], previous: Option<&Vec<AgentId>>) -> Vec<AgentId> {
    let before = previous.map(Vec::as_slice).unwrap_or_default();
    let kept = before.iter().filter(|agent| holders.contains(agent));
    let new = holders.iter().filter(|agent| !before.contains(agent));
    kept.chain(new).cloned().collect()
}

/// First choices of experts without a history go to the agent with the fewest so far.
fn spread_fresh(ordered: &mut Holders, layer: u32, fresh: &dyn Fn(&ExpertId) -> bool) {
    let experts: Vec<ExpertId> =
        of_layer(ordered, layer).map(|(id, _)| *id).filter(fresh).collect();
    let mut firsts: BTreeMap<AgentId, usize> = BTreeMap::new();
    for expert in experts {
        let Some(holders) = ordered.get_mut(&expert) else { continue };
        let count = |agent: &AgentId| firsts.get(agent).copied().unwrap_or(0);
        holders.sort_by_key(|agent| (count(agent), agent.clone()));
        if let Some(first) = holders.first() {
            *firsts.entry(first.clone()).or_default() += 1;
        }
    }
}

/// Finds a chain of experts along which one first choice moves from the busiest agent to one that has at least
/// two fewer, and moves it. Returns whether there was one.
fn shift_one(ordered: &mut Holders, layer: u32) -> bool {
    let mut firsts: BTreeMap<AgentId, usize> = BTreeMap::new();
    for (_, holders) in of_layer(ordered, layer) {
        for (rank, agent) in holders.iter().enumerate() {
            *firsts.entry(agent.clone()).or_default() += usize::from(rank == 0);
        }
    }
    let mut busiest_first: Vec<_> = firsts.iter().map(|(agent, count)| (*count, agent)).collect();
    busiest_first.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    for (count, agent) in busiest_first {
        if let Some(chain) = chain_to_idle(ordered, layer, agent, &firsts, count) {
            for (expert, to) in chain {
                promote(ordered, expert, &to);
            }
            return true;
        }
    }
    false
}

/// Breadth-first: agents reachable by promoting another holder of an expert whose first choice is the agent before.
fn chain_to_idle(
    ordered: &Holders,
    layer: u32,
    from: &AgentId,
    firsts: &BTreeMap<AgentId, usize>,
    count: usize,
) -> Option<Vec<(ExpertId, AgentId)>> {
    let mut reached: BTreeMap<AgentId, (AgentId, ExpertId)> = BTreeMap::new();
    let mut queue = VecDeque::from([from.clone()]);
    while let Some(agent) = queue.pop_front() {
        if firsts.get(&agent).is_some_and(|idle| idle + 2 <= count) {
            return Some(walk_back(&reached, from, agent));
        }
        let led = of_layer(ordered, layer).filter(|(_, holders)| holders.first() == Some(&agent));
        for (expert, holders) in led {
            for next in holders.iter().skip(1) {
                if next != from && !reached.contains_key(next) {
                    reached.insert(next.clone(), (agent.clone(), *expert));
                    queue.push_back(next.clone());
                }
            }
        }
    }
    None
}

fn walk_back(
    reached: &BTreeMap<AgentId, (AgentId, ExpertId)>,
    from: &AgentId,
    to: AgentId,
) -> Vec<(ExpertId, AgentId)> {
    let mut chain = Vec::new();
    let mut at = to;
    while &at != from {
        let Some((before, expert)) = reached.get(&at) else { break };
        chain.push((*expert, at));
        at = before.clone();
    }
    chain
}

fn promote(ordered: &mut Holders, expert: ExpertId, agent: &AgentId) {
    if let Some(holders) = ordered.get_mut(&expert)
        && let Some(rank) = holders.iter().position(|holder| holder == agent)
    {
        holders[..=rank].rotate_right(1);
    }
}

fn of_layer(ordered: &Holders, layer: u32) -> impl Iterator<Item = (&ExpertId, &Vec<AgentId>)> {
    let first = ExpertId { layer, expert: 0 };
    let last = ExpertId { layer, expert: u32::MAX };
    ordered.range(first..=last)
}
