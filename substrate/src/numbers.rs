//! How many agents and routers there should be, from round to round, and what they cost. Time is an argument.

use crate::routers::{RouterDuty, RouterWords};
use crate::signals::Counters;
use crate::substrate::Wanted;
use planner::cost::{Cost, CostMeter};
use planner::moment::Moment;
use planner::plan::Plan;
use planner::scale::{ScaleChange, ScaleInput, ScaleMemory, Signals, scale};
use planner::spec::Goal;

/// Numbers through time.
#[derive(Debug, Default)]
pub struct Numbers {
    /// `None` until it is known what exists: a start is no reason to begin from the minimum.
    memory: Option<ScaleMemory>,
    /// While it is a candidate: as many as serve elsewhere.
    least: u32,
    meter: CostMeter,
    counters: Counters,
}

/// What the numbers are decided from.
#[derive(Debug)]
pub struct Circumstances<'a> {
    pub now: Moment,
    pub goal: &'a Goal,
    pub duty: &'a RouterDuty,
    pub plan: Option<&'a Plan>,
    /// Fewest agents that hold the model and its copies; `None` while that is not known.
    pub floor: Option<u32>,
    pub signals: &'a Signals,
    pub words: &'a RouterWords,
}

impl Numbers {
    /// Whether it is known what exists.
    pub fn have_begun(&self) -> bool {
        self.memory.is_some()
    }

    /// Takes up what exists.
    pub fn begin(&mut self, goal: &Goal, agents: u32, routers: u32) {
        let agents = goal.agents.clamp(agents);
        self.memory = Some(ScaleMemory::starting_at(agents, goal.routers.clamp(routers)));
    }

    /// A candidate has at least this many agents, within its range, so that what it takes over does not swamp it.
    pub fn want_at_least(&mut self, agents: u32) {
        self.least = agents;
    }

    /// Decides; empty when everything stays.
    pub fn decide(&mut self, circumstances: &Circumstances<'_>) -> Vec<ScaleChange> {
        let Circumstances { now, goal, duty, plan, floor, signals, words } = *circumstances;
        let usage = self.counters.usage(signals, words);
        self.meter.observe(now, usage);
        let Some(memory) = &self.memory else { return Vec::new() };
        let nothing = Signals::default();
        let mut agents = goal.agents;
        match duty {
            RouterDuty::Active { .. } => self.least = 0,
            // What is to take over must come up, though nobody asks it for anything yet.
            RouterDuty::Candidate if plan.is_none() => {
                agents.min = agents.clamp(self.least.max(1)).max(agents.min);
            }
            RouterDuty::Candidate => agents.min = agents.clamp(self.least),
        }
        let scaled = scale(
            &ScaleInput {
                now,
                agents,
                routers: goal.routers,
                scaling: &goal.scaling,
                // Copies are on different agents, whatever the model is.
                floor: floor.unwrap_or(goal.copies.get()),
                sequences_max: plan.map_or(0, |plan| plan.engine.sequences_max),
                signals: match duty {
                    RouterDuty::Active { .. } => signals,
                    // Nobody sends it requests, so its load says nothing.
                    RouterDuty::Candidate => &nothing,
                },
            },
            memory,
        );
        self.memory = Some(scaled.memory);
        scaled.changes
    }

    /// What should exist; `None` until it is known what does.
    pub fn wanted(&self, duty: &RouterDuty) -> Option<Wanted> {
        let memory = self.memory.as_ref()?;
        let routers = match duty {
            RouterDuty::Active { .. } => Some(memory.routers.wanted),
            RouterDuty::Candidate => None,
        };
        Some(Wanted { agents: memory.agents.wanted, routers })
    }

    /// The cost of the last hour.
    pub fn cost(&self, goal: &Goal) -> Option<Cost> {
        goal.price.as_ref().and_then(|price| self.meter.cost(price))
    }
}
