//! What every substrate must do, as one suite: start, add, lose, replace, shrink, stop.
//!
//! A substrate's own tests call [`check`] with a [`Harness`]; the real agents and router run behind it.

use crate::reconcile::{ReconcileError, Reconciler};
use crate::status::{AgentCondition, AgentDetail, DeploymentStatus, Phase};
use crate::substrate::Substrate;
use planner::identity::{AgentId, ExpertId};
use planner::spec::{Goal, ReplicaRange};
use std::collections::BTreeSet;
use std::time::Duration;

/// One wait of the suite. Far above what loading the small model takes, so that only a hang reaches it.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// What the suite needs beside the trait.
pub trait Harness {
    /// The substrate under test.
    type Substrate: Substrate;

    /// A deployment of a small model with routed experts; the suite sets the number of agents itself.
    fn goal(&self) -> Goal;

    /// A substrate for that deployment. A second one finds what the first recorded.
    fn substrate(&self) -> Self::Substrate;

    /// Ends an agent without warning.
    fn kill(&self, victim: &AgentDetail);

    /// Everything of the deployment that still runs, for people to read.
    fn leftovers(&self) -> Vec<String>;
}

/// A promise that the substrate did not keep.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    #[error("{wait}: not within {} s; the last status was {last:#?}", WAIT_MAX.as_secs())]
    Waited { wait: &'static str, last: Box<DeploymentStatus> },
    #[error("{promise}: {found}")]
    Broken { promise: &'static str, found: String },
    #[error("start the reconciler")]
    Start(#[from] ReconcileError),
    #[error("stop: {0}")]
    Stop(String),
}

/// Runs the suite.
///
/// # Errors
/// The first promise that was not kept.
pub async fn check<H: Harness>(harness: &H) -> Result<(), ConformanceError> {
    let mut suite =
        Suite { reconciler: Reconciler::start(harness.substrate(), goal(harness, 2)).await? };
    suite.start().await?;
    suite.add(harness).await?;
    suite.lose_and_replace(harness).await?;
    suite.shrink(harness).await?;
    let before = suite.generation()?;
    suite.stop(harness).await?;
    again(harness, before).await
}

struct Suite<S> {
    reconciler: Reconciler<S>,
}

impl<S: Substrate> Suite<S> {
    /// Two agents come up, share the experts, and nothing moves when nothing changed.
    async fn start(&mut self) -> Result<(), ConformanceError> {
        let status = self.until("two agents available", is_available_with(2)).await?;
        self.check_residents(&status)?;
        let generation = self.generation()?;
        self.reconciler.reconcile().await;
        let again = self.generation()?;
        ensure(
            "an unchanged deployment keeps its plan",
            (again != generation).then(|| format!("generation {generation} became {again}")),
        )
    }

    /// A third agent takes its share.
    async fn add<H: Harness>(&mut self, harness: &H) -> Result<(), ConformanceError> {
        let before = self.generation()?;
        self.reconciler.set_goal(goal(harness, 3));
        let status = self.until("three agents available", is_available_with(3)).await?;
        self.check_residents(&status)?;
        let after = self.generation()?;
        ensure(
            "a new agent makes a new plan",
            (after <= before).then(|| format!("{before} → {after}")),
        )
    }

    /// A killed agent is replaced under its name and holds its experts again.
    async fn lose_and_replace<H: Harness>(&mut self, harness: &H) -> Result<(), ConformanceError> {
        let before = self.until("three agents before the loss", is_available_with(3)).await?;
        let generation = self.generation()?;
        let Some(victim) = before.agent_details.last().cloned() else {
            return broken("an available deployment has agents", "none");
        };
        harness.kill(&victim);
        let name = victim.agent.clone();
        let lost = move |status: &DeploymentStatus| {
            status.phase == Phase::Degraded
                && condition(status, &name) != Some(AgentCondition::Ready)
        };
        self.until("the loss is noticed", lost).await?;
        let status = self.until("full copies again", is_available_with(3)).await?;
        self.check_residents(&status)?;
        let replaced = status.agent_details.iter().find(|detail| detail.agent == victim.agent);
        let replaced = replaced.and_then(|detail| detail.instance.clone());
        let same = replaced == victim.instance;
        ensure("the replacement is another instance", same.then(|| format!("{replaced:?}")))?;
        let after = self.generation()?;
        let stays = after <= generation;
        ensure("the plan moves on", stays.then(|| format!("{generation} → {after}")))
    }

    /// An agent too many hands its experts over and leaves.
    async fn shrink<H: Harness>(&mut self, harness: &H) -> Result<(), ConformanceError> {
        self.reconciler.set_goal(goal(harness, 2));
        let gone = |status: &DeploymentStatus| {
            status.phase == Phase::Available && status.agent_details.len() == 2
        };
        let status = self.until("two agents after shrinking", gone).await?;
        self.check_residents(&status)
    }

    /// Nothing is left behind.
    async fn stop<H: Harness>(self, harness: &H) -> Result<(), ConformanceError> {
        let stopped = self.reconciler.stop().await;
        stopped.map_err(|error| ConformanceError::Stop(error.to_string()))?;
        let leftovers = harness.leftovers();
        let found = (!leftovers.is_empty()).then(|| leftovers.join(", "));
        ensure("stop leaves nothing behind", found)
    }

    async fn until(
        &mut self,
        wait: &'static str,
        reached: impl Fn(&DeploymentStatus) -> bool,
    ) -> Result<DeploymentStatus, ConformanceError> {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let status = self.reconciler.reconcile().await;
            if reached(&status) {
                return Ok(status);
            }
            if tokio::time::timeout_at(deadline, self.reconciler.changed()).await.is_err() {
                return Err(ConformanceError::Waited { wait, last: Box::new(status) });
            }
        }
    }

    fn generation(&self) -> Result<u64, ConformanceError> {
        match self.reconciler.plan() {
            Some(plan) => Ok(plan.generation.0),
            None => broken("an available deployment has a plan", "none"),
        }
    }

    /// Every agent holds what the plan gives it.
    fn check_residents(&self, status: &DeploymentStatus) -> Result<(), ConformanceError> {
        let Some(plan) = self.reconciler.plan() else {
            return broken("an available deployment has a plan", "none");
        };
        for detail in &status.agent_details {
            let held: BTreeSet<ExpertId> = detail
                .resident
                .iter()
                .flat_map(|(&layer, experts)| {
                    experts.iter().map(move |&expert| ExpertId { layer, expert })
                })
                .collect();
            let wanted = plan.placement.iter().filter(|(_, agents)| agents.contains(&detail.agent));
            let absent = wanted.map(|(expert, _)| expert).find(|expert| !held.contains(expert));
            let found = absent.map(|expert| format!("{} has no {expert:?}", detail.agent));
            ensure("every agent holds its share", found)?;
        }
        Ok(())
    }
}

/// A later run takes up the recorded plan with a higher number.
async fn again<H: Harness>(harness: &H, before: u64) -> Result<(), ConformanceError> {
    let mut suite =
        Suite { reconciler: Reconciler::start(harness.substrate(), goal(harness, 2)).await? };
    suite.until("two agents in a second run", is_available_with(2)).await?;
    let after = suite.generation()?;
    suite.stop(harness).await?;
    let back = after < before;
    ensure("numbers of plans never go back", back.then(|| format!("{before} → {after}")))
}

fn goal<H: Harness>(harness: &H, agents: u32) -> Goal {
    Goal { agents: ReplicaRange::exactly(agents), ..harness.goal() }
}

fn is_available_with(agents: u32) -> impl Fn(&DeploymentStatus) -> bool {
    move |status| status.phase == Phase::Available && status.agents.ready == agents
}

fn condition(status: &DeploymentStatus, agent: &AgentId) -> Option<AgentCondition> {
    let detail = status.agent_details.iter().find(|detail| &detail.agent == agent);
    detail.map(|detail| detail.condition)
}

/// What was found instead breaks the promise; nothing found keeps it.
fn ensure(promise: &'static str, found: Option<String>) -> Result<(), ConformanceError> {
    match found {
        None => Ok(()),
        Some(found) => broken(promise, found),
    }
}

fn broken<T>(promise: &'static str, found: impl Into<String>) -> Result<T, ConformanceError> {
    Err(ConformanceError::Broken { promise, found: found.into() })
}
