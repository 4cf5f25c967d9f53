//! Rollouts: whose restart is next, and when none is.

use crate::world::agent;
use planner::identity::{AgentId, ExpertId};
use planner::moment::Moment;
use planner::rollout::{
    AgentView, Experts, Health, Patience, RolloutInput, RolloutMemory, Step, Stopped, Waiting,
    cannot_evacuate, next,
};
use std::collections::BTreeMap;

struct World {
    now: u64,
    agents: BTreeMap<AgentId, AgentView>,
    memory: RolloutMemory,
}

impl World {
    /// Agents a, b, c, … all outdated and ready; each holds these experts.
    fn new(held: &[&[u32]]) -> Self {
        let name = |n: usize| agent(["a", "b", "c", "d"][n]);
        let view = |experts: &&[u32]| AgentView {
            needs_restart: true,
            health: Health::Ready,
            sequences: 0,
            progress: 0,
            resident: experts.iter().map(|&expert| ExpertId { layer: 1, expert }).collect(),
        };
        let agents = held.iter().enumerate().map(|(n, experts)| (name(n), view(experts)));
        Self { now: 0, agents: agents.collect(), memory: RolloutMemory::default() }
    }

    fn after(&mut self, seconds: u64) -> Step {
        self.now += seconds * 1_000;
        let input = RolloutInput {
            now: Moment(self.now),
            agents: &self.agents,
            patience: Patience::default(),
        };
        let (step, memory) = next(&input, &self.memory);
        self.memory = memory;
        step
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut AgentView)) {
        change(self.agents.get_mut(&agent(name)).expect("a known agent"));
    }

    fn comes_back(&mut self, name: &str) {
        self.change(name, |view| {
            (view.needs_restart, view.health) = (false, Health::Ready);
        });
    }
}

fn two_copies() -> World {
    World::new(&[&[0, 1], &[1, 2], &[2, 0]])
}

#[test]
fn one_agent_after_the_other_is_drained_restarted_and_awaited() {
    let mut world = two_copies();
    world.change("a", |view| view.sequences = 3);
    assert_eq!(world.after(0), Step::Drain(agent("b")), "the least busy one first");
    assert_eq!(world.after(1), Step::Restart(agent("b")));
    world.change("b", |view| view.health = Health::NotReady);
    world.change("b", |view| view.needs_restart = false);
    assert_eq!(world.after(1), Step::Wait(Waiting::Returning { agent: agent("b") }));
    world.comes_back("b");
    assert_eq!(world.after(1), Step::Drain(agent("c")));
    assert_eq!(world.after(1), Step::Restart(agent("c")));
    world.comes_back("c");
    assert_eq!(world.after(1), Step::Drain(agent("a")));
    assert_eq!(world.after(59), Step::Drain(agent("a")), "its sequences end");
    assert_eq!(world.after(1), Step::Restart(agent("a")), "the rest moves to other homes");
    world.comes_back("a");
    assert_eq!(world.after(1), Step::Done);
}

#[test]
fn nobody_is_restarted_while_another_is_down() {
    let mut world = two_copies();
    world.comes_back("c");
    world.change("c", |view| view.health = Health::NotReady);
    assert_eq!(world.after(0), Step::Wait(Waiting::NotReady { agent: agent("c") }));
    world.comes_back("c");
    assert_eq!(world.after(1), Step::Drain(agent("a")));
}

#[test]
fn a_drained_agent_waits_for_one_that_went_down_meanwhile() {
    let mut world = two_copies();
    assert_eq!(world.after(0), Step::Drain(agent("a")));
    world.comes_back("c");
    world.change("c", |view| view.health = Health::NotReady);
    let waits = Step::Wait(Waiting::NotReady { agent: agent("c") });
    assert_eq!(world.after(1), waits);
    assert_eq!(world.after(500), waits);
    world.change("c", |view| (view.health, view.resident) = (Health::Ready, [].into()));
    let uncovered = Step::Wait(Waiting::Uncovered { agent: agent("a") });
    assert_eq!(world.after(1), uncovered, "c has not loaded its experts again");
    world.change("c", |view| {
        view.resident = [2, 0].map(|expert| ExpertId { layer: 1, expert }).into();
    });
    assert_eq!(world.after(1), Step::Restart(agent("a")));
}

#[test]
fn agents_that_serve_nobody_go_first() {
    let mut world = two_copies();
    world.change("c", |view| view.health = Health::Broken { cause: "old image".to_owned() });
    assert_eq!(world.after(0), Step::Restart(agent("c")));
    let mut world = two_copies();
    world.change("b", |view| view.health = Health::NotReady);
    assert_eq!(world.after(0), Step::Restart(agent("b")));
}

#[test]
fn a_restarted_agent_that_fails_stops_the_rollout_and_another_wish_goes_on() {
    let mut world = two_copies();
    assert_eq!(world.after(0), Step::Drain(agent("a")));
    assert_eq!(world.after(1), Step::Restart(agent("a")));
    let cause = "no such image".to_owned();
    world.change("a", |view| {
        view.needs_restart = false;
        view.health = Health::Broken { cause: cause.clone() };
    });
    let stopped = Step::Stopped(Stopped::Broken { agent: agent("a"), cause });
    assert_eq!(world.after(1), stopped);
    assert_eq!(world.after(600), stopped, "and stays so");
    // Back to the image of b and c.
    for name in ["b", "c"] {
        world.change(name, |view| view.needs_restart = false);
    }
    world.change("a", |view| view.needs_restart = true);
    assert_eq!(world.after(1), Step::Restart(agent("a")));
    world.comes_back("a");
    assert_eq!(world.after(1), Step::Done);
}

#[test]
fn an_agent_without_progress_stops_the_rollout_and_one_that_loads_slowly_does_not() {
    let mut world = two_copies();
    assert_eq!(world.after(0), Step::Drain(agent("a")));
    assert_eq!(world.after(1), Step::Restart(agent("a")));
    world.change("a", |view| {
        (view.needs_restart, view.health) = (false, Health::NotReady);
    });
    for bytes in 1..10 {
        world.change("a", |view| view.progress = bytes);
        assert_eq!(world.after(500), Step::Wait(Waiting::Returning { agent: agent("a") }));
    }
    let stopped = Stopped::NoProgress { agent: agent("a"), seconds: 600 };
    assert_eq!(world.after(600), Step::Stopped(stopped));
    world.comes_back("a");
    assert_eq!(world.after(1), Step::Drain(agent("b")), "it did come up in the end");
}

#[test]
fn a_wish_that_changes_back_leaves_the_drained_agent_alone() {
    let mut world = two_copies();
    assert_eq!(world.after(0), Step::Drain(agent("a")));
    for name in ["a", "b", "c"] {
        world.change(name, |view| view.needs_restart = false);
    }
    assert_eq!(world.after(1), Step::Done);
}

#[test]
fn the_only_copy_is_handed_over_first_where_that_is_possible() {
    let mut world = World::new(&[&[0], &[1]]);
    assert_eq!(world.after(0), Step::Evacuate(agent("a")));
    assert_eq!(world.after(10), Step::Evacuate(agent("a")), "b loads it");
    world.change("b", |view| view.resident.extend([ExpertId { layer: 1, expert: 0 }]));
    assert_eq!(world.after(1), Step::Drain(agent("a")));
    assert_eq!(world.after(1), Step::Restart(agent("a")));
}

#[test]
fn the_only_agent_is_restarted_when_nothing_else_is_possible() {
    let mut world = World::new(&[&[0]]);
    assert_eq!(world.after(0), Step::Evacuate(agent("a")));
    world.memory = cannot_evacuate(&world.memory, Moment(world.now));
    assert_eq!(world.after(1), Step::Restart(agent("a")));
}

#[test]
fn experts_that_moved_for_a_restart_stay_away_until_it_is_over() {
    let mut world = World::new(&[&[0], &[1]]);
    let moved = |world: &World| world.memory.subject.as_ref().map(|it| it.experts);
    assert_eq!(world.after(0), Step::Evacuate(agent("a")));
    world.change("b", |view| {
        view.resident = [0, 1].map(|expert| ExpertId { layer: 1, expert }).into();
    });
    assert_eq!(world.after(1), Step::Drain(agent("a")));
    assert_eq!(moved(&world), Some(Experts::Moved));
    assert_eq!(world.after(1), Step::Restart(agent("a")));
    assert_eq!(moved(&world), Some(Experts::Moved));
    world.comes_back("a");
    assert_eq!(world.after(1), Step::Evacuate(agent("b")));
    assert_eq!(moved(&world), Some(Experts::Stay));
}

#[test]
fn a_drained_agent_does_not_wait_for_ever_and_not_when_it_is_the_last_one() {
    let mut world = two_copies();
    assert_eq!(world.after(0), Step::Drain(agent("a")));
    world.change("b", |view| view.health = Health::NotReady);
    assert_eq!(world.after(60), Step::Wait(Waiting::NotReady { agent: agent("b") }));
    assert_eq!(world.after(600), Step::Restart(agent("a")), "b's machine may be gone for days");

    let mut world = two_copies();
    assert_eq!(world.after(0), Step::Drain(agent("a")));
    world.change("b", |view| view.health = Health::NotReady);
    world.change("c", |view| view.health = Health::NotReady);
    assert_eq!(world.after(1), Step::Restart(agent("a")), "nobody else serves");
}
