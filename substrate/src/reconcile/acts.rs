//! What a round does beside the plan: tell routers, drain, restart, release, replace.

use super::{Reconciler, Scene};
use crate::apply::{Applied, homes};
use crate::derive::{is_covered, is_idle};
use crate::lost::LOST_AFTER;
use crate::routers::{Homes, Pace, RouterDuty, RouterOutcome, hold_unknown_homes};
use crate::substrate::Substrate;
use planner::identity::AgentId;
use planner::inventory::AgentState;
use planner::plan::Plan;
use planner::rollout::Step;
use proto::v1::AgentPhase;
use std::time::Duration;

/// A replaced agent may take this long to come up before it is replaced once more.
const REPLACE_AGAIN: Duration = Duration::from_secs(600);

impl<S: Substrate> Reconciler<S> {
    /// Orders for routers; they are carried out beside the rounds.
    pub(super) fn tell_routers(&mut self, scene: &Scene, applied: Option<&Applied>) {
        let RouterDuty::Active { resuming } = &self.duty else {
            return self.routers.tell(None, 0, Pace::Steady);
        };
        let ready = scene.reports.values().any(|report| report.is_ready());
        let served = scene.words.values().all(RouterOutcome::is_ready);
        let pace = if ready && !served { Pace::Quick } else { Pace::Steady };
        let mut told = match applied {
            Some(applied) => reachable_homes(applied.plan(), scene),
            // The plan was lost, not the agents: whoever serves goes on until there is another.
            None if scene.wanted.agents > 0
                && hold_unknown_homes(&scene.words, self.routers.told()) =>
            {
                return self.routers.tell(None, 0, pace);
            }
            // Asleep, or not yet up: there is nobody to send requests to, so routers that know the model hold them.
            None => Homes { model: self.goal.name.to_string(), homes: Vec::new() },
        };
        let known: Vec<String> = told.homes.iter().map(|home| home.agent_id.clone()).collect();
        told.homes.extend(resuming.iter().filter(|it| !known.contains(&it.agent_id)).cloned());
        let generation = self.previous.as_ref().map_or(1, |plan| plan.generation.0);
        self.routers.tell(Some(told), generation, pace);
    }

    /// Restarts, releases and replaces whoever's turn it is.
    pub(super) async fn act(&mut self, scene: &Scene, applied: Option<&Applied>) {
        match &scene.step {
            Step::Drain(agent) => self.ask_to_drain(scene, agent),
            Step::Restart(agent) => {
                tracing::info!(%agent, "restart");
                if let Err(error) = self.substrate.restart(agent).await {
                    tracing::warn!(%agent, %error, "the agent could not be restarted");
                    self.rollout.subject = None;
                }
            }
            Step::Done | Step::Evacuate(_) | Step::Wait(_) | Step::Stopped(_) => {}
        }
        self.release_covered(scene).await;
        self.replace_fenced(scene, applied).await;
    }

    fn ask_to_drain(&mut self, scene: &Scene, agent: &AgentId) {
        let status = scene.reports.get(agent).and_then(|report| report.status());
        let drains = status.is_some_and(|status| status.phase() == AgentPhase::Draining);
        if let Some(facts) = scene.observed.inventory.agents.get(agent).filter(|_| !drains) {
            self.drains.ask(agent, &facts.address);
        }
    }

    /// Drains leaving agents, and lets go of those whose experts others hold and whose sequences are done.
    async fn release_covered(&mut self, scene: &Scene) {
        let leaving = scene.observed.inventory.agents.iter();
        let leaving = leaving.filter(|(_, facts)| facts.state == AgentState::Leaving);
        let leaving: Vec<AgentId> = leaving.map(|(agent, _)| agent.clone()).collect();
        for agent in leaving {
            self.ask_to_drain(scene, &agent);
            let silence = self.silences.of(&agent, scene.now);
            // Whoever cannot be heard any more has nothing to wait for.
            let done = silence.is_some_and(|silence| silence >= LOST_AFTER)
                || is_idle(&agent, &scene.reports);
            let (plan, observed) = (self.previous.as_ref(), &scene.observed);
            let covered =
                scene.wanted.agents == 0 || is_covered(&agent, plan, observed, &scene.reports);
            if done
                && covered
                && let Err(error) = self.substrate.release(&agent).await
            {
                tracing::warn!(%agent, %error, "the leaving agent could not be stopped");
            }
        }
    }

    /// Replaces lost agents once nobody sends them anything any more.
    async fn replace_fenced(&mut self, scene: &Scene, applied: Option<&Applied>) {
        self.replaced.retain(|agent, _| self.losses.lost.contains_key(agent));
        let Some(applied) = applied else { return };
        let planned = &applied.plan().agents;
        let fenced = applied.is_acknowledged(&scene.reports) && self.routers_agree(scene);
        let heard = planned
            .keys()
            .filter(|agent| scene.reports.get(*agent).is_some_and(|it| it.status().is_some()));
        // With most of them silent, the fault may be on this side.
        let trusted = heard.count() >= self.losses.lost.len();
        let due: Vec<AgentId> = self
            .losses
            .lost
            .keys()
            .filter(|agent| {
                let gone = scene.observed.gone.contains(*agent);
                let again = self.replaced.get(*agent);
                let again = again.is_none_or(|at| scene.now.duration_since(*at) >= REPLACE_AGAIN);
                fenced && again && (trusted || gone) && !planned.contains_key(*agent)
            })
            .cloned()
            .collect();
        for agent in due {
            tracing::warn!(%agent, "replacing the lost agent");
            match self.substrate.replace_lost(&agent).await {
                Ok(()) => drop(self.replaced.insert(agent, scene.now)),
                Err(error) => tracing::warn!(%agent, %error, "the lost agent was not replaced"),
            }
        }
    }

    /// Every router that answers holds the homes that it should.
    fn routers_agree(&self, scene: &Scene) -> bool {
        let told = self.routers.told();
        scene.words.values().all(|word| match word {
            RouterOutcome::Holds(status) => Some(status.generation) == told,
            RouterOutcome::Failed { .. } => true,
            RouterOutcome::Awaited | RouterOutcome::Answers(_) | RouterOutcome::Outdated { .. } => {
                told.is_none()
            }
        })
    }
}

/// Homes that are where the plan says.
fn reachable_homes(plan: &Plan, scene: &Scene) -> Homes {
    let mut told = homes(plan);
    told.homes.retain(|home| {
        let there = scene.observed.inventory.agents.get(&AgentId::new(home.agent_id.as_str()));
        there.is_some_and(|facts| facts.address == home.address)
    });
    told
}
