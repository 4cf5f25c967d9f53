//! Which groups of agents a deployment has, and what each is for. Pure.
//!
//! A group is the agents of one model. A changed model makes a second group beside the first; when all its agents are
//! ready, routers send new requests there and the old group only ends what it began, then it goes. A model that
//! never becomes ready therefore takes nothing away, and going back to the old one is immediate.

use crate::render::Group;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Streams of the old model may run this long after the switch. The router's own patience with streams is the same:
/// half an hour is 32,768 tokens at 50 ms each.
pub const DRAIN_MAX: Duration = Duration::from_secs(1_800);

/// And at least this long: routers are told of the switch within a second, and until then they send requests to the old
/// group.
const DRAIN_MIN: Duration = Duration::from_secs(10);

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Takes new requests.
    Serving,
    /// Loads the model that is wanted, and takes over once it is ready.
    Rising,
    /// Ends the streams that it has.
    Draining { since: Instant },
}

/// The groups of one deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    duties: BTreeMap<Group, Duty>,
}

/// How far a group is, as its reconciler sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every agent that was asked for is ready, and so are all experts.
    pub is_ready: bool,
    /// No sequence runs or waits.
    pub is_idle: bool,
}

impl Groups {
    /// As an earlier run left them: those that exist, and the one that serves.
    pub fn restore(
        existing: impl IntoIterator<Item = Group>,
        serving: Option<&Group>,
        now: Instant,
    ) -> Self {
        let mut groups = Self::default();
        for group in existing {
            let duty = match serving {
                Some(serving) if *serving == group => Duty::Serving,
                // The wanted one among them rises again at once.
                Some(_) | None => Duty::Draining { since: now },
            };
            groups.duties.insert(group, duty);
        }
        groups
    }

    /// Makes room for the group that is wanted now. Returns the groups that have become useless.
    pub fn want(&mut self, wanted: &Group) -> Vec<Group> {
        match self.duties.get(wanted) {
            Some(Duty::Serving | Duty::Rising) => {}
            Some(Duty::Draining { .. }) | None => {
                let first = self.serving().is_none();
                self.duties
                    .insert(wanted.clone(), if first { Duty::Serving } else { Duty::Rising });
            }
        }
        self.remove_where(|group, duty| group != wanted && *duty == Duty::Rising)
    }

    /// Takes up what reconcilers report. Returns the groups that may go.
    pub fn advance(&mut self, progress: &BTreeMap<Group, Progress>, now: Instant) -> Vec<Group> {
        let rising = self.duties.iter().find(|(_, duty)| **duty == Duty::Rising);
        let ready = rising.map(|(group, _)| group.clone());
        let ready =
            ready.filter(|group| progress.get(group).is_some_and(|progress| progress.is_ready));
        if let Some(successor) = ready {
            for duty in self.duties.values_mut() {
                if *duty == Duty::Serving {
                    *duty = Duty::Draining { since: now };
                }
            }
            self.duties.insert(successor, Duty::Serving);
        }
        self.remove_where(|group, duty| match duty {
            Duty::Serving | Duty::Rising => false,
            Duty::Draining { since } => {
                let drained = now.duration_since(*since);
                let idle = progress.get(group).is_some_and(|progress| progress.is_idle);
                drained > DRAIN_MAX || idle && drained >= DRAIN_MIN
            }
        })
    }

    /// The group that takes new requests.
    pub fn serving(&self) -> Option<&Group> {
        self.duties.iter().find(|(_, duty)| **duty == Duty::Serving).map(|(group, _)| group)
    }

    /// Every group and its duty.
    pub fn duties(&self) -> &BTreeMap<Group, Duty> {
        &self.duties
    }

    fn remove_where(&mut self, useless: impl Fn(&Group, &Duty) -> bool) -> Vec<Group> {
        let gone: Vec<Group> = self
            .duties
            .iter()
            .filter(|(group, duty)| useless(group, duty))
            .map(|(group, _)| group.clone())
            .collect();
        self.duties.retain(|group, _| !gone.contains(group));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, DRAIN_MAX, DRAIN_MIN, Duration, Duty, Group, Groups, Instant, Progress};

    const IDLE: Progress = Progress { is_ready: true, is_idle: true };
    const BUSY: Progress = Progress { is_ready: true, is_idle: false };
    const UNREADY: Progress = Progress { is_ready: false, is_idle: true };

    fn group(name: &str) -> Group {
        Group::from_label(name)
    }

    /// Two groups, the first of which serves, once `b` is ready.
    fn switched(now: Instant) -> Groups {
        let mut groups = Groups::default();
        assert!(groups.want(&group("a")).is_empty());
        assert!(groups.want(&group("b")).is_empty());
        assert_eq!(groups.serving(), Some(&group("a")));
        let progress = BTreeMap::from([(group("b"), IDLE)]);
        assert!(groups.advance(&progress, now).is_empty());
        groups
    }

    #[test]
    fn the_first_group_serves_at_once_and_the_second_when_it_is_ready() {
        let now = Instant::now();
        let mut groups = Groups::default();
        groups.want(&group("a"));
        groups.want(&group("b"));
        let progress = BTreeMap::from([(group("b"), UNREADY)]);
        groups.advance(&progress, now);
        assert_eq!(groups.serving(), Some(&group("a")), "b is not ready");
        assert_eq!(switched(now).serving(), Some(&group("b")));
    }

    #[test]
    fn the_old_group_goes_when_it_is_idle_and_in_any_case_after_a_while() {
        let now = Instant::now();
        let idle = BTreeMap::from([(group("a"), IDLE)]);
        let busy = BTreeMap::from([(group("a"), BUSY)]);
        let mut groups = switched(now);
        assert!(groups.advance(&idle, now + DRAIN_MIN / 2).is_empty(), "routers may not know yet");
        assert!(groups.advance(&busy, now + DRAIN_MIN).is_empty());
        assert_eq!(groups.advance(&idle, now + DRAIN_MIN), [group("a")]);
        let mut groups = switched(now);
        assert_eq!(groups.advance(&busy, now + DRAIN_MAX + Duration::from_secs(1)), [group("a")]);
    }

    #[test]
    fn going_back_removes_the_group_that_rises() {
        let mut groups = Groups::default();
        groups.want(&group("a"));
        groups.want(&group("b"));
        assert_eq!(groups.want(&group("a")), [group("b")]);
        assert_eq!(groups.serving(), Some(&group("a")));
    }

    #[test]
    fn a_third_model_replaces_the_second_before_it_serves() {
        let mut groups = Groups::default();
        groups.want(&group("a"));
        groups.want(&group("b"));
        assert_eq!(groups.want(&group("c")), [group("b")]);
        assert_eq!(groups.duties().get(&group("c")), Some(&Duty::Rising));
    }

    #[test]
    fn a_draining_group_that_is_wanted_again_rises_again() {
        let now = Instant::now();
        let mut groups = switched(now);
        assert!(groups.want(&group("a")).is_empty());
        let progress = BTreeMap::from([(group("a"), BUSY)]);
        groups.advance(&progress, now);
        assert_eq!(groups.serving(), Some(&group("a")));
    }

    #[test]
    fn groups_are_found_again_after_a_restart() {
        let now = Instant::now();
        let existing = [group("a"), group("b")];
        let mut groups = Groups::restore(existing, Some(&group("a")), now);
        groups.want(&group("b"));
        assert_eq!(groups.serving(), Some(&group("a")));
        assert_eq!(groups.duties().get(&group("b")), Some(&Duty::Rising));
    }
}
