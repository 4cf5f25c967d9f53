//! How many pods a StatefulSet should have, and which of them leave. Pure.
//!
//! A StatefulSet stops its highest ordinals first, so a pod leaves only when all above it have left.

use planner::identity::AgentId;
use std::collections::BTreeSet;

/// The pods of one StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    set: String,
    /// Pods that the StatefulSet has or is to have.
    current: u32,
    wanted: u32,
    released: BTreeSet<AgentId>,
}

impl Replicas {
    /// `current` as an earlier run left it.
    pub fn new(set: String, current: u32) -> Self {
        Self { set, current, wanted: current, released: BTreeSet::new() }
    }

    /// That many should be; more come at once, fewer only as they are released.
    pub fn want(&mut self, wanted: u32) {
        self.wanted = wanted;
        self.current = self.current.max(wanted);
        let stays: BTreeSet<AgentId> = (0..wanted).map(|ordinal| self.agent(ordinal)).collect();
        self.released.retain(|agent| !stays.contains(agent));
    }

    /// This one may stop.
    pub fn release(&mut self, agent: &AgentId) {
        self.released.insert(agent.clone());
        while self.current > self.wanted {
            let last = self.agent(self.current - 1);
            if !self.released.remove(&last) {
                return;
            }
            self.current -= 1;
        }
    }

    /// What the StatefulSet is to have now.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// Every agent of it, with its tenure.
    pub fn agents(&self) -> impl Iterator<Item = (AgentId, Tenure)> {
        (0..self.current).map(|ordinal| {
            let tenure = if ordinal < self.wanted { Tenure::Stays } else { Tenure::Leaves };
            (self.agent(ordinal), tenure)
        })
    }

    fn agent(&self, ordinal: u32) -> AgentId {
        AgentId::new(format!("{}-{ordinal}", self.set))
    }
}

/// Whether an agent is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    Stays,
    Leaves,
}

#[cfg(test)]
mod tests {
    use super::{AgentId, Replicas, Tenure};

    fn agent(ordinal: u32) -> AgentId {
        AgentId::new(format!("set-{ordinal}"))
    }

    #[test]
    fn pods_leave_from_the_top_once_released() {
        let mut replicas = Replicas::new("set".to_owned(), 4);
        replicas.want(2);
        assert_eq!(replicas.current(), 4);
        let leaving: Vec<AgentId> = replicas
            .agents()
            .filter(|(_, tenure)| *tenure == Tenure::Leaves)
            .map(|(agent, _)| agent)
            .collect();
        assert_eq!(leaving, [agent(2), agent(3)]);
        replicas.release(&agent(2));
        assert_eq!(replicas.current(), 4, "the one above is still needed");
        replicas.release(&agent(3));
        assert_eq!(replicas.current(), 2);
    }

    #[test]
    fn a_released_pod_that_is_wanted_again_stays() {
        let mut replicas = Replicas::new("set".to_owned(), 3);
        replicas.want(1);
        replicas.release(&agent(1));
        replicas.want(2);
        replicas.release(&agent(2));
        assert_eq!(replicas.current(), 2);
        replicas.want(1);
        assert_eq!(replicas.current(), 2, "it has to be released again");
    }

    #[test]
    fn more_come_at_once() {
        let mut replicas = Replicas::new("set".to_owned(), 0);
        replicas.want(3);
        assert_eq!(replicas.current(), 3);
    }
}
