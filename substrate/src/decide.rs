//! Specification and inventory → the plan to apply, or why there is none. Pure.

use planner::identity::Generation;
use planner::inventory::Inventory;
use planner::lint::{Finding, lint};
use planner::plan::{Plan, PlanError, Planned, WaitingOn, plan};
use planner::spec::ServingSpec;

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The previous plan still fits; it may fall short of what was asked for.
    Keep { waiting: Vec<WaitingOn> },
    /// A new plan, which may fall short of what was asked for.
    Move { plan: Box<Plan>, waiting: Vec<WaitingOn> },
    /// Agents are on their way up and nothing is planned yet: a plan for some of them would load experts only
    /// to move them again a moment later.
    AwaitAgents,
}

/// A decision and what it was made from, so that an equal situation need not be decided again: planning fifteen
/// thousand experts takes longer than all the rest of a round.
#[derive(Clone, Debug)]
pub struct Decided {
    pub spec: ServingSpec,
    pub inventory: Inventory,
    pub highest_seen: Generation,
    /// The plan that holds since then.
    pub generation: Generation,
    pub waiting: Vec<WaitingOn>,
}

impl Decided {
    /// Whether deciding again would keep the plan.
    pub fn still_holds(&self, situation: &Situation<'_>) -> bool {
        situation.spec == &self.spec
            && situation.inventory == &self.inventory
            && situation.highest_seen == self.highest_seen
            && situation.previous.is_some_and(|plan| plan.generation == self.generation)
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Ours to fix: the planner made a plan that its own checker refuses.
    #[error("the checker refuses plan {generation}: {findings}")]
    Lint { generation: u64, findings: String },
}

/// What a decision is made from.
#[derive(Debug)]
pub struct Situation<'a> {
    pub spec: &'a ServingSpec,
    pub inventory: &'a Inventory,
    pub arrivals: Arrivals,
    pub previous: Option<&'a Plan>,
    /// The highest generation that any agent or router is known to hold.
    pub highest_seen: Generation,
}

/// Whether the agents that a first plan should be made for are in the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    Complete,
    /// Some have no address yet.
    Outstanding,
}

/// Decides on the next plan.
///
/// # Errors
/// [`DecideError`] when the model does not fit, or the planner contradicts its checker.
pub fn decide(situation: &Situation<'_>) -> Result<Decision, DecideError> {
    let Situation { spec, inventory, arrivals, previous, highest_seen } = *situation;
    if arrivals == Arrivals::Outstanding {
        return Ok(Decision::AwaitAgents);
    }
    let Planned { plan: mut next, waiting } = plan(spec, inventory, previous)?;
    let findings = lint(spec, inventory, &next, previous);
    if !findings.is_empty() {
        let findings: Vec<String> = findings.iter().map(Finding::to_string).collect();
        return Err(DecideError::Lint {
            generation: next.generation.0,
            findings: findings.join("; "),
        });
    }
    // Someone holds a higher number than we remember (our record was lost): numbers go on from there.
    if next.generation < highest_seen {
        next.generation = Generation(highest_seen.0.saturating_add(1));
    }
    if previous == Some(&next) {
        Ok(Decision::Keep { waiting })
    } else {
        Ok(Decision::Move { plan: Box::new(next), waiting })
    }
}
