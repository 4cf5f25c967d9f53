//! Who counts as lost, and when.

use crate::example::{agent, inventory};
use planner::identity::AgentId;
use planner::inventory::AgentState;
use std::collections::BTreeSet;
use std::time::Duration;
use substrate::Observed;
use substrate::lost::{GONE_AFTER, LOST_AFTER, Listening, Losses, REPLACED_AFTER, Silences};
use substrate::report::{Report, Reports};
use tokio::time::Instant;

struct World {
    silences: Silences,
    begin: Instant,
    observed: Observed,
    reports: Reports,
    planned: BTreeSet<AgentId>,
}

impl World {
    /// Three agents, all heard.
    fn new() -> Self {
        let heard = |n| (agent(n), Report::Heard(Box::default()));
        Self {
            silences: Silences::default(),
            begin: Instant::now(),
            observed: Observed { inventory: inventory(3), ..Observed::default() },
            reports: (0..3).map(heard).collect(),
            planned: (0..3).map(agent).collect(),
        }
    }

    fn silent(&mut self, n: u32) {
        self.reports.insert(agent(n), Report::Silent { cause: "nothing".to_owned() });
    }

    fn after(&mut self, passed: Duration) -> Losses {
        self.silences.judge(&Listening {
            now: self.begin + passed,
            observed: &self.observed,
            reports: &self.reports,
            planned: &self.planned,
            returning: None,
        })
    }

    fn lost_after(&mut self, passed: Duration) -> Vec<AgentId> {
        self.after(passed).lost.into_keys().collect()
    }
}

#[test]
fn an_agent_is_lost_after_a_grace_and_back_when_it_is_heard() {
    let mut world = World::new();
    world.silent(1);
    assert!(world.lost_after(Duration::ZERO).is_empty());
    assert!(world.lost_after(LOST_AFTER - Duration::from_millis(1)).is_empty());
    assert_eq!(world.lost_after(LOST_AFTER), [agent(1)]);
    // It stays lost though the plan does not have it any more.
    world.planned.remove(&agent(1));
    assert_eq!(world.lost_after(LOST_AFTER * 2), [agent(1)]);
    world.reports.insert(agent(1), Report::Heard(Box::default()));
    assert!(world.lost_after(LOST_AFTER * 3).is_empty());
}

#[test]
fn the_grace_depends_on_what_is_known() {
    let mut world = World::new();
    world.silent(0);
    world.observed.gone.insert(agent(0));
    world.observed.inventory.agents.get_mut(&agent(1)).unwrap().state = AgentState::Restarting;
    assert!(world.lost_after(Duration::ZERO).is_empty());
    assert_eq!(world.lost_after(GONE_AFTER), [agent(0)]);
    assert_eq!(world.lost_after(REPLACED_AFTER), [agent(0), agent(1)]);
}

#[test]
fn a_word_in_between_starts_the_grace_again() {
    let mut world = World::new();
    world.silent(1);
    world.after(Duration::ZERO);
    world.reports.insert(agent(1), Report::Awaited);
    world.after(LOST_AFTER / 2);
    world.silent(1);
    assert!(world.lost_after(LOST_AFTER).is_empty());
    assert_eq!(world.lost_after(LOST_AFTER * 2), [agent(1)]);
}

#[test]
fn when_nobody_answers_nobody_is_lost() {
    let mut world = World::new();
    for n in 0..3 {
        world.silent(n);
    }
    world.after(Duration::ZERO);
    let losses = world.after(LOST_AFTER * 10);
    assert!(losses.lost.is_empty());
    assert_eq!(losses.all_silent, Some(3));
    world.reports.insert(agent(0), Report::Heard(Box::default()));
    assert_eq!(world.lost_after(LOST_AFTER * 11), [agent(1), agent(2)]);
}

#[test]
fn one_that_the_plan_does_not_have_is_lost_when_its_machine_is_gone() {
    let mut world = World::new();
    world.planned.remove(&agent(1));
    world.planned.remove(&agent(2));
    world.silent(1);
    world.silent(2);
    world.observed.gone.insert(agent(2));
    assert!(world.lost_after(Duration::ZERO).is_empty());
    // Agent 1 may only be on its way up.
    assert_eq!(world.lost_after(LOST_AFTER * 2), [agent(2)]);
}
