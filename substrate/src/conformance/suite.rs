//! The suite's steps: each drives the reconciler until a promise is kept.

use super::{ConformanceError, Harness, WAIT_MAX, broken, ensure};
use crate::reconcile::Reconciler;
use crate::status::{AgentCondition, AgentDetail, DeploymentStatus, Phase};
use crate::substrate::{Instance, Substrate};
use planner::identity::{AgentId, ExpertId};
use planner::spec::{Goal, ReplicaRange, Scaling};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) struct Suite<S> {
    reconciler: Reconciler<S>,
}

impl<S: Substrate> Suite<S> {
    pub(super) async fn start_with<H: Harness<Substrate = S>>(
        harness: &H,
        agents: u32,
    ) -> Result<Self, ConformanceError> {
        let goal = goal(harness, agents);
        Ok(Self { reconciler: Reconciler::start(harness.substrate(), goal).await? })
    }

    /// Two agents come up.
    pub(super) async fn come_up(&mut self, wait: &'static str) -> Result<(), ConformanceError> {
        self.until(wait, is_available_with(2)).await.map(drop)
    }

    /// Two agents come up, share the experts, and nothing moves when nothing changed.
    pub(super) async fn start(&mut self) -> Result<(), ConformanceError> {
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
    pub(super) async fn add<H: Harness>(&mut self, harness: &H) -> Result<(), ConformanceError> {
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
    pub(super) async fn lose_and_replace<H: Harness>(
        &mut self,
        harness: &H,
    ) -> Result<(), ConformanceError> {
        let before = self.until("three agents before the loss", is_available_with(3)).await?;
        let generation = self.generation()?;
        let victim = last_agent(&before)?;
        harness.kill(&victim);
        let name = victim.agent.clone();
        let lost = move |status: &DeploymentStatus| {
            status.phase == Phase::Degraded
                && condition(status, &name) != Some(AgentCondition::Ready)
        };
        self.until("the loss is noticed", lost).await?;
        let status = self.until("full copies again", is_available_with(3)).await?;
        self.check_residents(&status)?;
        check_replaced(&status, &victim)?;
        let after = self.generation()?;
        let stays = after <= generation;
        ensure("the plan moves on", stays.then(|| format!("{generation} → {after}")))
    }

    /// Outdated agents are restarted, each of them once, and never two at a time.
    pub(super) async fn roll_out<H: Harness<Substrate = S>>(
        &mut self,
        harness: &H,
    ) -> Result<(), ConformanceError> {
        let before = self.until("three agents before the rollout", is_available_with(3)).await?;
        let old = instances(&before);
        harness.outdate(self.reconciler.substrate_mut());
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let status = self.reconciler.reconcile().await;
            let down = 3_u32.saturating_sub(status.agents.ready);
            let found = (down > 1).then(|| format!("{down} agents are down: {status:#?}"));
            ensure("one agent is restarted at a time", found)?;
            let missing = status.experts.missing;
            let found = (missing > 0).then(|| format!("{missing} experts are on no agent"));
            ensure("a rollout leaves every expert on some agent", found)?;
            let new = instances(&status);
            let renewed = old.iter().all(|(agent, old)| new.get(agent) != Some(old));
            if status.phase == Phase::Available && status.agents.outdated == 0 && renewed {
                return self.check_residents(&status);
            }
            if tokio::time::timeout_at(deadline, self.reconciler.changed()).await.is_err() {
                let last = Box::new(status);
                return Err(ConformanceError::Waited { wait: "every agent is renewed", last });
            }
        }
    }

    /// The experts of an agent that hangs are held by others, then it is replaced and takes its share again.
    pub(super) async fn lose_and_rebuild<H: Harness>(
        &mut self,
        harness: &H,
    ) -> Result<(), ConformanceError> {
        let before = self.until("three agents before the hang", is_available_with(3)).await?;
        let victim = last_agent(&before)?;
        harness.freeze(&victim);
        let name = victim.agent.clone();
        let silent = move |status: &DeploymentStatus| {
            condition(status, &name) == Some(AgentCondition::Silent)
        };
        self.until("the silence is noticed", silent).await?;
        let status = self.until("it is lost", |status| lost(status).is_some()).await?;
        let other = lost(&status).filter(|agent| **agent != victim.agent);
        ensure("only the silent agent is lost", other.map(ToString::to_string))?;
        let planned =
            self.reconciler.plan().is_some_and(|it| it.agents.contains_key(&victim.agent));
        let found = planned.then(|| victim.agent.to_string());
        ensure("a lost agent's experts are planned on others", found)?;
        let status = self.until("it is replaced", is_available_with(3)).await?;
        check_replaced(&status, &victim)?;
        self.check_residents(&status)
    }

    /// An agent too many hands its experts over and leaves.
    pub(super) async fn shrink<H: Harness>(&mut self, harness: &H) -> Result<(), ConformanceError> {
        self.reconciler.set_goal(goal(harness, 2));
        let gone = |status: &DeploymentStatus| {
            status.phase == Phase::Available && status.agent_details.len() == 2
        };
        let status = self.until("two agents after shrinking", gone).await?;
        self.check_residents(&status)
    }

    /// Without a request the last agents go, and come back when they are wanted.
    pub(super) async fn sleep_and_wake<H: Harness>(
        &mut self,
        harness: &H,
    ) -> Result<(), ConformanceError> {
        let scaling = Scaling { sleep_after: Duration::ZERO, ..Scaling::default() };
        let agents = ReplicaRange { min: 0, max: 2 };
        self.reconciler.set_goal(Goal { agents, scaling, ..harness.goal() });
        let asleep = |status: &DeploymentStatus| {
            status.phase == Phase::Sleeping && status.agent_details.is_empty()
        };
        self.until("no agent is left", asleep).await?;
        let status = self.reconciler.reconcile().await;
        let awake = (status.phase != Phase::Sleeping).then(|| format!("{status:#?}"));
        ensure("nothing wakes by itself", awake)?;
        self.reconciler.set_goal(goal(harness, 2));
        let status = self.until("two agents after waking", is_available_with(2)).await?;
        self.check_residents(&status)
    }

    /// Nothing is left behind.
    pub(super) async fn stop<H: Harness>(self, harness: &H) -> Result<(), ConformanceError> {
        let stopped = self.reconciler.stop().await;
        stopped.map_err(|error| ConformanceError::Stop(error.to_string()))?;
        let leftovers = harness.leftovers();
        let found = (!leftovers.is_empty()).then(|| leftovers.join(", "));
        ensure("stop leaves nothing behind", found)
    }

    pub(super) fn generation(&self) -> Result<u64, ConformanceError> {
        match self.reconciler.plan() {
            Some(plan) => Ok(plan.generation.0),
            None => broken("an available deployment has a plan", "none"),
        }
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

fn lost(status: &DeploymentStatus) -> Option<&AgentId> {
    let mut lost =
        status.agent_details.iter().filter(|detail| detail.condition == AgentCondition::Lost);
    lost.next().map(|detail| &detail.agent)
}

fn last_agent(status: &DeploymentStatus) -> Result<AgentDetail, ConformanceError> {
    match status.agent_details.last() {
        Some(detail) => Ok(detail.clone()),
        None => broken("an available deployment has agents", "none"),
    }
}

fn instances(status: &DeploymentStatus) -> BTreeMap<AgentId, Instance> {
    let instance = |detail: &AgentDetail| Some((detail.agent.clone(), detail.instance.clone()?));
    status.agent_details.iter().filter_map(instance).collect()
}

fn check_replaced(status: &DeploymentStatus, victim: &AgentDetail) -> Result<(), ConformanceError> {
    let replaced = instances(status).remove(&victim.agent);
    let same = replaced == victim.instance;
    ensure("the replacement is another instance", same.then(|| format!("{replaced:?}")))
}
