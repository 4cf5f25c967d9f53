//! Laws that hold for every specification and inventory.

use crate::world::{agent, facts, inventory, spec};
use planner::identity::{AgentId, ExpertId};
use planner::inventory::{AgentState, Inventory};
use planner::lint::lint;
use planner::plan::{Plan, PlanError, plan};
use planner::spec::ServingSpec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// (host, room in experts, state) of one agent.
type AgentCase = (u8, u64, u8);

fn any_inventory() -> impl Strategy<Value = Inventory> {
    prop::collection::vec((0_u8..4, 0_u64..80, 0_u8..9), 0..7).prop_map(|cases: Vec<AgentCase>| {
        let mut inventory = Inventory::default();
        for (index, (host, room, state)) in cases.into_iter().enumerate() {
            let name = format!("agent-{index}");
            let mut facts = facts(&name, &format!("host-{host}"), room);
            facts.state = match state {
                0 => AgentState::Leaving,
                1 => AgentState::Restarting,
                2 => AgentState::Draining,
                3 => AgentState::Lost,
                _ => AgentState::Running,
            };
            inventory.agents.insert(agent(&name), facts);
        }
        inventory
    })
}

fn any_spec() -> impl Strategy<Value = ServingSpec> {
    (0_u32..4, 1_u32..17, 1_u32..4)
        .prop_map(|(layers, experts, copies)| spec(layers, experts, copies))
}

fn held(plan: &Plan) -> BTreeSet<(ExpertId, AgentId)> {
    let pairs = |(id, agents): (&ExpertId, &Vec<AgentId>)| {
        let id = *id;
        agents.iter().map(move |agent| (id, agent.clone())).collect::<Vec<_>>()
    };
    plan.placement.iter().flat_map(pairs).collect()
}

fn planned(spec: &ServingSpec, inventory: &Inventory, previous: Option<&Plan>) -> Plan {
    plan(spec, inventory, previous).expect("the case fits").plan
}

/// Per layer: the most and fewest entries of any agent.
fn spread(counts: &BTreeMap<(u32, AgentId), usize>, agents: usize, layer: u32) -> (usize, usize) {
    let of_layer: Vec<usize> =
        counts.iter().filter(|((at, _), _)| *at == layer).map(|(_, count)| *count).collect();
    let fewest =
        if of_layer.len() < agents { 0 } else { of_layer.iter().copied().min().unwrap_or(0) };
    (of_layer.iter().copied().max().unwrap_or(0), fewest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is there and whatever was planned before, a plan is lint-clean, deterministic and idempotent, and
    /// what is refused did not fit.
    #[test]
    fn plans_are_clean_and_idempotent(
        spec in any_spec(),
        before in any_inventory(),
        after in any_inventory(),
    ) {
        let previous = plan(&spec, &before, None).ok().map(|planned| planned.plan);
        match plan(&spec, &after, previous.as_ref()) {
            Ok(first) => {
                prop_assert_eq!(lint(&spec, &after, &first.plan, previous.as_ref()), []);
                prop_assert_eq!(&plan(&spec, &after, previous.as_ref()).expect("as before"), &first);
                let again = plan(&spec, &after, Some(&first.plan)).expect("as before");
                prop_assert_eq!(&again.plan, &first.plan);
            }
            Err(PlanError::NoAgents) => {
                prop_assert!(after.agents.values().all(|facts| !facts.state.holds_experts()));
            }
            Err(PlanError::DoesNotFit { needed, available, .. }) => {
                let short = after.agents.values().any(|facts| facts.memory_bytes < 1_500);
                prop_assert!(available < needed || short);
            }
        }
    }

    /// With equal agents on hosts of their own, copies and first choices are even in every layer, and all copies
    /// are there.
    #[test]
    fn equal_agents_share_evenly(agents in 1_usize..8, layers in 1_u32..4, experts in 1_u32..24, copies in 1_u32..4) {
        let spec = spec(layers, experts, copies);
        let plan = planned(&spec, &inventory(agents, 1_000), None);
        let copies = copies.min(u32::try_from(agents).expect("few"));
        let (mut held, mut firsts) = (BTreeMap::new(), BTreeMap::new());
        for (id, holders) in &plan.placement {
            prop_assert_eq!(holders.len(), copies as usize);
            for (rank, holder) in holders.iter().enumerate() {
                *held.entry((id.layer, holder.clone())).or_insert(0) += 1;
                *firsts.entry((id.layer, holder.clone())).or_insert(0) += usize::from(rank == 0);
            }
        }
        for layer in 1..=layers {
            let (most, fewest) = spread(&held, agents, layer);
            prop_assert!(most - fewest <= 1, "copies {most} and {fewest} in layer {layer}");
            let (most, fewest) = spread(&firsts, agents, layer);
            prop_assert!(most - fewest <= 1, "first choices {most} and {fewest} in layer {layer}");
        }
    }

    /// Joining moves only copies onto the newcomer, and no more than its even share of every layer.
    #[test]
    fn joining_moves_a_share(agents in 2_usize..8, layers in 1_u32..4, experts in 1_u32..24) {
        let spec = spec(layers, experts, 2);
        let before = planned(&spec, &inventory(agents, 1_000), None);
        let after = planned(&spec, &inventory(agents + 1, 1_000), Some(&before));
        let (old, new) = (held(&before), held(&after));
        let newcomer = agent(&format!("agent-{agents}"));
        let moved: Vec<_> = new.difference(&old).collect();
        prop_assert!(moved.iter().all(|(_, agent)| *agent == newcomer));
        let share = (experts as usize * 2).div_ceil(agents + 1) * layers as usize;
        prop_assert!(moved.len() <= share, "{} moved, share {share}", moved.len());
    }

    /// Leaving moves only what the leaver held; nobody else's copies are disturbed, but for evening out one copy a
    /// layer and agent.
    #[test]
    fn leaving_moves_what_left(agents in 4_usize..8, layers in 1_u32..4, experts in 1_u32..24, which in 0_usize..8) {
        let spec = spec(layers, experts, 2);
        let mut there = inventory(agents, 1_000);
        let before = planned(&spec, &there, None);
        let leaver = agent(&format!("agent-{}", which % agents));
        there.agents.remove(&leaver);
        let after = planned(&spec, &there, Some(&before));
        let (old, new) = (held(&before), held(&after));
        let left = old.iter().filter(|(_, agent)| *agent == leaver).count();
        let moved = new.difference(&old).count();
        prop_assert!(moved >= left);
        prop_assert!(moved <= left + layers as usize * agents, "{moved} moved, {left} had left");
    }
}

#[test]
fn a_plan_survives_its_json() {
    let plan = planned(&spec(2, 4, 2), &inventory(3, 100), None);
    let text = serde_json::to_string(&plan).expect("plans are JSON");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("its own JSON"), plan);
}

/// Outdated processes keep the settings that they run with, also over several plans; a restarted one gets the new ones.
#[test]
fn outdated_agents_keep_their_settings_until_they_are_restarted() {
    let spec = spec(2, 8, 2);
    let mut there = inventory(3, 100);
    let before = planned(&spec, &there, None);
    let mut wished = spec.clone();
    wished.engine.context_length = 1_024;
    there.outdated = there.agents.keys().cloned().collect();
    let begun = planned(&wished, &there, Some(&before));
    assert_eq!(lint(&wished, &there, &begun, Some(&before)), []);
    let lengths = |plan: &Plan| -> Vec<u32> {
        plan.agents.keys().map(|agent| plan.settings_of(agent).context_length).collect()
    };
    assert_eq!((begun.engine.context_length, lengths(&begun)), (1_024, vec![512; 3]));
    there.outdated.remove(&agent("agent-1"));
    let half = planned(&wished, &there, Some(&begun));
    assert_eq!(lint(&wished, &there, &half, Some(&begun)), []);
    assert_eq!(lengths(&half), [512, 1_024, 512]);
    there.outdated.clear();
    assert_eq!(lengths(&planned(&wished, &there, Some(&half))), [1_024; 3]);
}

/// The hash is of what a plan gives, not of its number.
#[test]
fn plans_that_give_the_same_have_one_hash() {
    let spec = spec(2, 8, 2);
    let mut there = inventory(3, 100);
    let first = planned(&spec, &there, None);
    there.agents.get_mut(&agent("agent-1")).expect("there").state = AgentState::Draining;
    let second = planned(&spec, &there, Some(&first));
    there.agents.get_mut(&agent("agent-1")).expect("there").state = AgentState::Running;
    let third = planned(&spec, &there, Some(&second));
    assert_ne!(first.hash(), second.hash());
    assert_eq!(first.hash(), third.hash());
    assert_eq!(first.hash().len(), 16);
}

/// A process that is replaced under its name changes the address and the role, and moves nothing.
#[test]
fn a_replaced_process_moves_nothing() {
    let spec = spec(2, 8, 2);
    let mut there = inventory(3, 100);
    let before = planned(&spec, &there, None);
    let replaced = there.agents.get_mut(&agent("agent-1")).expect("there");
    replaced.state = AgentState::Restarting;
    replaced.address = "agent-1:7001".to_owned();
    let after = planned(&spec, &there, Some(&before));
    assert_eq!(after.placement, before.placement);
    assert_eq!(after.generation.0, before.generation.0 + 1);
}

/// Measurements are outside data: any numbers make a plan.
#[test]
fn any_measured_load_is_planned_for() {
    let spec = spec(2, 8, 2);
    let mut there = inventory(3, 100);
    for expert in 0..6 {
        there.expert_load.insert(ExpertId { layer: 1, expert }, u64::MAX);
    }
    let plan = planned(&spec, &there, None);
    assert_eq!(lint(&spec, &there, &plan, None), []);
}

/// The busiest experts are placed first, each on the agent with less to do: neither their order nor a blind split by
/// number would give both agents the same rows.
#[test]
fn measured_load_is_shared_evenly() {
    let spec = spec(1, 8, 1);
    let mut there = inventory(2, 100);
    for (expert, rows) in (0..).zip([100, 90, 80, 70, 1, 1, 1, 1]) {
        there.expert_load.insert(ExpertId { layer: 1, expert }, rows);
    }
    let mut rows_of: BTreeMap<AgentId, u64> = BTreeMap::new();
    for (id, holders) in planned(&spec, &there, None).placement {
        for holder in holders {
            *rows_of.entry(holder).or_default() += there.expert_load[&id];
        }
    }
    assert_eq!(rows_of.into_values().collect::<Vec<_>>(), [172, 172]);
}

/// The largest model there is, on more agents than anyone has: planning must stay far below a reconcile's pace.
/// Every agent that joins moves hundreds of copies, which once took a look at all fifteen thousand experts each.
#[test]
fn a_large_model_is_planned_and_joined() {
    let spec = spec(58, 256, 2);
    let before = planned(&spec, &inventory(16, 3_000), None);
    let there = inventory(17, 3_000);
    let after = planned(&spec, &there, Some(&before));
    assert_eq!(lint(&spec, &there, &after, Some(&before)), []);
    assert_eq!(planned(&spec, &there, Some(&after)), after);
}
