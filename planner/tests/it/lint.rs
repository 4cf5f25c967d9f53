//! Lint finds what is wrong: every finding is provoked by breaking a clean plan.

use crate::world::{agent, inventory, memory_for, spec};
use planner::identity::{ExpertId, Generation, HostId};
use planner::inventory::{AgentState, Inventory};
use planner::lint::{Finding, lint};
use planner::plan::{Plan, plan};
use planner::spec::EngineSettings;

const FIRST: ExpertId = ExpertId { layer: 1, expert: 0 };

fn clean() -> (Inventory, Plan) {
    let inventory = inventory(3, 100);
    let plan = plan(&spec(2, 4, 2), &inventory, None).expect("it fits").plan;
    (inventory, plan)
}

fn findings_after(change: impl FnOnce(&mut Inventory, &mut Plan)) -> Vec<Finding> {
    let (mut inventory, mut plan) = clean();
    assert_eq!(lint(&spec(2, 4, 2), &inventory, &plan, None), []);
    change(&mut inventory, &mut plan);
    lint(&spec(2, 4, 2), &inventory, &plan, None)
}

fn holders(plan: &mut Plan) -> &mut Vec<planner::identity::AgentId> {
    plan.placement.get_mut(&FIRST).expect("the first expert is placed")
}

#[test]
fn missing_and_unknown_experts_are_found() {
    let missing = findings_after(|_, plan| drop(plan.placement.remove(&FIRST)));
    assert_eq!(missing, [Finding::ExpertUnplaced(FIRST)]);
    let empty = findings_after(|_, plan| holders(plan).clear());
    assert_eq!(empty, [Finding::ExpertUnplaced(FIRST)]);
    let stranger = ExpertId { layer: 9, expert: 9 };
    let unknown = findings_after(|_, plan| {
        plan.placement.insert(stranger, vec![agent("agent-0")]);
    });
    assert_eq!(unknown, [Finding::ExpertUnknown(stranger)]);
}

#[test]
fn broken_copies_are_found() {
    let twice = findings_after(|_, plan| holders(plan)[1] = holders(plan)[0].clone());
    assert!(twice.iter().any(|it| matches!(it, Finding::CopyTwiceOnAgent { .. })), "{twice:?}");
    let stranger = findings_after(|_, plan| holders(plan)[1] = agent("nobody"));
    assert!(stranger.iter().any(|it| matches!(it, Finding::AgentNotPlanned { .. })));
    let many = findings_after(|_, plan| {
        *holders(plan) = ["agent-0", "agent-1", "agent-2"].map(agent).to_vec();
    });
    assert_eq!(many, [Finding::TooManyCopies { expert: FIRST, copies: 3, asked: 2 }]);
    let together = findings_after(|inventory, plan| {
        for name in &*holders(plan) {
            inventory.agents.get_mut(name).expect("planned").host = HostId::new("same");
        }
    });
    assert!(together.iter().any(|it| matches!(it, Finding::HostsNotDisjoint { .. })));
}

#[test]
fn stale_agents_are_found() {
    let gone = findings_after(|inventory, _| drop(inventory.agents.remove(&agent("agent-1"))));
    assert!(gone.contains(&Finding::AgentNotThere(agent("agent-1"))));
    let elsewhere = findings_after(|inventory, _| {
        inventory.agents.get_mut(&agent("agent-1")).expect("there").address = "new:1".to_owned();
    });
    assert!(matches!(elsewhere.as_slice(), [Finding::AddressStale { .. }]));
    let restarting = findings_after(|inventory, _| {
        inventory.agents.get_mut(&agent("agent-1")).expect("there").state = AgentState::Restarting;
    });
    assert_eq!(restarting, [Finding::HomeNotRunning(agent("agent-1"))]);
    let small = findings_after(|inventory, _| {
        inventory.agents.get_mut(&agent("agent-1")).expect("there").memory_bytes = memory_for(1);
    });
    assert!(matches!(small.as_slice(), [Finding::OverMemory { .. }]));
}

#[test]
fn lost_agents_and_stale_settings_are_found() {
    let lost = findings_after(|inventory, _| {
        inventory.agents.get_mut(&agent("agent-1")).expect("there").state = AgentState::Lost;
    });
    assert!(lost.contains(&Finding::AgentLost(agent("agent-1"))), "{lost:?}");
    let stale = findings_after(|_, plan| {
        let older = EngineSettings { queue_max: 1, ..plan.engine.clone() };
        plan.agents.get_mut(&agent("agent-1")).expect("planned").keeps = Some(older);
    });
    assert_eq!(stale, [Finding::SettingsStale(agent("agent-1"))]);
    let other = findings_after(|_, plan| plan.facts.fingerprint = "tiny-2".to_owned());
    assert!(matches!(other.as_slice(), [Finding::OtherModel { .. }]), "{other:?}");
}

#[test]
fn generations_must_follow() {
    let (inventory, first) = clean();
    let check = |plan: &Plan| lint(&spec(2, 4, 2), &inventory, plan, Some(&first));
    assert_eq!(check(&first), []);
    let skipped = Plan { generation: Generation(3), parent: Some(Generation(1)), ..first.clone() };
    assert_eq!(check(&skipped), [Finding::GenerationDoesNotFollow { old: 1, new: 3 }]);
    let orphan = Plan { generation: Generation(2), parent: None, ..first.clone() };
    assert_eq!(check(&orphan), [Finding::GenerationDoesNotFollow { old: 1, new: 2 }]);
    let engine = EngineSettings { queue_max: 1, ..first.engine.clone() };
    let forged = Plan { engine, ..first.clone() };
    assert_eq!(check(&forged), [Finding::SameNumberOtherContent(1)]);
}

#[test]
fn copies_that_could_be_there_are_missed() {
    let few = findings_after(|_, plan| holders(plan).truncate(1));
    assert!(
        few.iter().any(|it| matches!(it, Finding::TooFewCopies { copies: 1, possible: 2, .. }))
    );
    let three = spec(1, 4, 3);
    let mut inventory = inventory(4, 100);
    let mut plan = plan(&three, &inventory, None).expect("it fits").plan;
    *holders(&mut plan) = ["agent-0", "agent-1", "agent-2"].map(agent).to_vec();
    inventory.agents.get_mut(&agent("agent-1")).expect("there").host = HostId::new("host-0");
    let found = lint(&three, &inventory, &plan, None);
    let shared = |it: &&Finding| matches!(it, Finding::HostsNotDisjoint { expert: FIRST, .. });
    assert_eq!(found.iter().filter(shared).count(), 1, "{found:?}");
}

#[test]
fn uneven_plans_are_found() {
    let hoarded = findings_after(|_, plan| {
        for agents in plan.placement.values_mut() {
            *agents = ["agent-0", "agent-1"].map(agent).to_vec();
        }
    });
    let idle = |it: &&Finding| matches!(it, Finding::CountsUneven { emptiest, fewest: 0, .. } if *emptiest == agent("agent-2"));
    assert_eq!(hoarded.iter().filter(idle).count(), 2, "one in each layer: {hoarded:?}");
    let led = |it: &&Finding| matches!(it, Finding::FirstChoicesUneven { most: 4, fewest: 0, .. });
    assert_eq!(hoarded.iter().filter(led).count(), 2, "one in each layer: {hoarded:?}");
}
