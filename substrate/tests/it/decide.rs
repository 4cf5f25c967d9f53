//! When a new plan is made, and which number it gets.

use crate::example::{agent, inventory, planned, spec};
use planner::identity::Generation;
use planner::inventory::{AgentState, Inventory};
use planner::plan::{AgentRole, Plan};
use substrate::decide::{Arrivals, DecideError, Decision, Situation, decide};

fn decided(
    inventory: &Inventory,
    previous: Option<&Plan>,
    highest_seen: u64,
) -> Result<Decision, DecideError> {
    decide(&Situation {
        spec: &spec(3, 2),
        inventory,
        arrivals: Arrivals::Complete,
        previous,
        highest_seen: Generation(highest_seen),
    })
}

fn moved(decision: Result<Decision, DecideError>) -> Plan {
    match decision.unwrap() {
        Decision::Move { plan, waiting } => {
            assert_eq!(waiting, [], "nothing is short");
            *plan
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn outstanding_agents_are_awaited() {
    let inventory = inventory(2);
    let situation = Situation {
        spec: &spec(3, 2),
        inventory: &inventory,
        arrivals: Arrivals::Outstanding,
        previous: None,
        highest_seen: Generation(0),
    };
    assert_eq!(decide(&situation).unwrap(), Decision::AwaitAgents);
}

#[test]
fn an_unchanged_situation_keeps_the_plan() {
    let plan = planned(3, 2);
    let kept = decided(&inventory(3), Some(&plan), plan.generation.0).unwrap();
    assert_eq!(kept, Decision::Keep { waiting: Vec::new() });
}

#[test]
fn a_restarting_agent_is_no_home_until_it_is_back() {
    let plan = planned(3, 2);
    let mut there = inventory(3);
    there.agents.get_mut(&agent(1)).unwrap().state = AgentState::Restarting;
    let without = moved(decided(&there, Some(&plan), plan.generation.0));
    assert_eq!(without.agents[&agent(1)].role, AgentRole::ExpertsOnly);
    assert_eq!(without.placement, plan.placement, "its experts stay with it");
    let back = moved(decided(&inventory(3), Some(&without), without.generation.0));
    assert_eq!(back.agents[&agent(1)].role, AgentRole::Home);
    assert!(plan.generation < without.generation && without.generation < back.generation);
}

#[test]
fn numbers_go_on_from_the_highest_that_anyone_holds() {
    let first = moved(decided(&inventory(3), None, 41));
    assert_eq!(first.generation, Generation(42), "our record was lost, the agents' was not");
    let kept = decided(&inventory(3), Some(&first), 42).unwrap();
    assert_eq!(kept, Decision::Keep { waiting: Vec::new() });
}

#[test]
fn a_model_that_does_not_fit_is_no_plan() {
    let mut there = inventory(3);
    for facts in there.agents.values_mut() {
        facts.memory_bytes = 120;
    }
    let error = decided(&there, None, 0).unwrap_err();
    assert!(matches!(error, DecideError::Plan(_)), "{error}");
    assert!(error.to_string().contains("120"), "{error}");
}
