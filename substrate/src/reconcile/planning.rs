//! From a scene to a plan that everyone who can be reached has been given.

use super::{Arrival, Reconciler, Scene, failed};
use crate::apply::{Application, Applied, apply};
use crate::assign::AssignOutcome;
use crate::decide::{Arrivals, DecideError, Decided, Decision, Situation, decide};
use crate::facts::{choose, differing, is_eligible};
use crate::reason::Reason;
use crate::report::Reports;
use crate::rolling;
use crate::substrate::Substrate;
use planner::engine::{EngineError, size};
use planner::identity::Generation;
use planner::inventory::{AgentFacts, AgentState, Inventory};
use planner::plan::WaitingOn;
use planner::rollout::{Step, cannot_evacuate};
use planner::scale;
use planner::spec::{EngineSettings, ModelFacts, ServingSpec};
use std::time::Duration;
use tokio::time::Instant;

/// How long the first plan waits for agents that are not there yet. A plan for some of them would load experts only
/// to move them again a moment later; but one machine that never comes must not keep the others idle.
const ARRIVALS_MAX: Duration = Duration::from_secs(30);

impl<S: Substrate> Reconciler<S> {
    /// Decides on the plan, records a new one and gives it to agents.
    pub(super) async fn plan_and_apply(
        &mut self,
        scene: &Scene,
        reasons: &mut Vec<Reason>,
    ) -> Option<Applied> {
        if scene.wanted.agents == 0 {
            // When it wakes, its agents are awaited like those of a first plan.
            self.stage = Arrival::Awaited { since: None };
            return None;
        }
        let mut inventory = self.inventory(scene);
        if let Some(facts) = choose(&self.goal, self.previous.as_ref(), &scene.reports) {
            reasons.extend(differing(&facts, &scene.reports));
            self.keep_eligible(&mut inventory, &facts, &scene.reports);
            self.decide_and_record((scene, &inventory), facts, reasons).await;
        } else if scene.observed.starting.is_empty() {
            reasons.push(Reason::ModelUnread);
        }
        self.note_losses(reasons);
        let plan = self.previous.clone()?;
        let (reports, routers) = (&scene.reports, scene.words.clone());
        let work = Application { plan, inventory: &inventory, reports, routers };
        let applied = apply(work, &mut self.contacts).await;
        self.refused = applied.needing_restart();
        self.note_outdated(&applied);
        Some(applied)
    }

    /// What is there, with what the substrate does not know: memory, who is lost and whose restart is next.
    fn inventory(&mut self, scene: &Scene) -> Inventory {
        let mut inventory = scene.observed.inventory.clone();
        // One that was planned and has no address for the moment keeps its place.
        for agent in &scene.observed.starting {
            let planned = self.previous.as_ref().and_then(|plan| plan.agents.get(agent));
            if let Some(planned) = planned.filter(|_| self.stage == Arrival::Planned) {
                let facts = AgentFacts {
                    host: planned.host.clone(),
                    address: planned.address.clone(),
                    memory_bytes: 0,
                    state: AgentState::Restarting,
                };
                inventory.agents.entry(agent.clone()).or_insert(facts);
            }
        }
        if !inventory.agents.is_empty() {
            self.memory_bytes.retain(|agent, _| inventory.agents.contains_key(agent));
        }
        for (agent, facts) in &inventory.agents {
            let reported = scene.reports.get(agent).and_then(|report| report.status());
            let reported = reported.map_or(0, |status| status.memory_bytes);
            let known = if facts.memory_bytes > 0 { facts.memory_bytes } else { reported };
            if known > 0 {
                self.memory_bytes.insert(agent.clone(), known);
            }
        }
        // One that has not said yet is taken for the smallest of the others.
        let smallest = self.memory_bytes.values().copied().min().unwrap_or(0);
        for (agent, facts) in &mut inventory.agents {
            facts.memory_bytes = self.memory_bytes.get(agent).copied().unwrap_or(smallest);
        }
        rolling::mark(&mut inventory, &self.rollout, &self.losses, &scene.reports);
        inventory
    }

    fn keep_eligible(&self, inventory: &mut Inventory, facts: &ModelFacts, reports: &Reports) {
        let (goal, previous) = (&self.goal, self.previous.as_ref());
        inventory.agents.retain(|agent, there| {
            let report = reports.get(agent);
            // Leaving ones that were never planned have nothing to hand over.
            let unplanned = previous.is_none_or(|plan| !plan.agents.contains_key(agent));
            let gone = there.state == AgentState::Leaving && unplanned;
            !gone && is_eligible(goal, previous, (agent, report), facts)
        });
    }

    async fn decide_and_record(
        &mut self,
        (scene, inventory): (&Scene, &Inventory),
        facts: ModelFacts,
        reasons: &mut Vec<Reason>,
    ) {
        let (mut engine, sized) = match self.engine(inventory, &facts) {
            Ok(engines) => engines,
            Err(EngineError::ContextTooLong { asked, longest }) => {
                return reasons.push(Reason::ContextTooLong { asked, longest });
            }
        };
        let arrivals = self.arrivals(scene, inventory);
        let (agents, highest_seen) = (scene.wanted.agents, self.highest_seen);
        let decide_with = |engine: &EngineSettings| {
            let spec = self.goal.spec(agents, facts.clone(), engine.clone());
            let previous = self.previous.as_ref();
            let (spec, inventory) = (&spec, inventory);
            let situation = Situation { spec, inventory, arrivals, previous, highest_seen };
            match self.decided.as_ref().filter(|it| it.still_holds(&situation)) {
                Some(decided) => Ok(Decision::Keep { waiting: decided.waiting.clone() }),
                None => decide(&situation),
            }
        };
        let mut decision = decide_with(&engine);
        // Agents with less memory than before: a smaller cache, for which they are restarted, may make room.
        if matches!(decision, Err(DecideError::Plan(_))) && sized != engine {
            engine = sized;
            decision = decide_with(&engine);
        }
        let spec = self.goal.spec(agents, facts, engine);
        match decision {
            Ok(Decision::AwaitAgents) => {}
            Ok(Decision::Keep { waiting }) => {
                self.stage = Arrival::Planned;
                reasons.extend(waiting.iter().map(Reason::shortfall));
                self.remember(spec, inventory, waiting);
            }
            Ok(Decision::Move { plan, waiting }) => {
                reasons.extend(waiting.iter().map(Reason::shortfall));
                match self.substrate.record(&plan).await {
                    Ok(()) => {
                        tracing::info!(generation = plan.generation.0, "new plan");
                        self.stage = Arrival::Planned;
                        self.previous = Some(*plan);
                        self.remember(spec, inventory, waiting);
                    }
                    Err(error) => reasons.push(failed("record the plan", &error)),
                }
            }
            // Without its subject the model does not fit: the rollout goes on without handing its experts over.
            Err(DecideError::Plan(_)) if matches!(scene.step, Step::Evacuate(_)) => {
                self.rollout = cannot_evacuate(&self.rollout, self.moment(scene.now));
            }
            Err(error) => reasons.push(Reason::NoPlan { error: error.to_string() }),
        }
    }

    /// Fewest agents that hold the model and its copies, as far as that is known.
    pub(super) fn floor(&self, reports: &Reports) -> Option<u32> {
        let memory_bytes = self.memory_bytes.values().copied().min()?;
        let facts = choose(&self.goal, self.previous.as_ref(), reports)?;
        let planned = self.previous.as_ref().filter(|plan| plan.facts == facts);
        let engine = match planned {
            Some(plan) => plan.engine.clone(),
            None => size(&facts, &self.goal.engine, memory_bytes).ok()?,
        };
        scale::floor(&facts, &engine, self.goal.copies.get(), memory_bytes)
    }

    fn remember(&mut self, spec: ServingSpec, inventory: &Inventory, waiting: Vec<WaitingOn>) {
        let generation = self.previous.as_ref().map_or(Generation(0), |plan| plan.generation);
        let (inventory, highest_seen) = (inventory.clone(), self.highest_seen);
        self.decided = Some(Decided { spec, inventory, highest_seen, generation, waiting });
    }

    /// Settings to plan with, and those that would be chosen afresh. Settings once chosen stay while what was asked
    /// for does, for a running process cannot change them.
    fn engine(
        &self,
        inventory: &Inventory,
        facts: &ModelFacts,
    ) -> Result<(EngineSettings, EngineSettings), EngineError> {
        let there = inventory.agents.values().filter(|facts| facts.state.holds_experts());
        let memory_bytes = there.map(|facts| facts.memory_bytes).min().unwrap_or(0);
        let sized = size(facts, &self.goal.engine, memory_bytes)?;
        let before = self.previous.as_ref().filter(|plan| plan.facts == *facts);
        Ok(match before.map(|plan| &plan.engine) {
            Some(before) if suits(before, &sized) => (before.clone(), sized),
            Some(_) | None => (sized.clone(), sized),
        })
    }

    fn arrivals(&mut self, scene: &Scene, inventory: &Inventory) -> Arrivals {
        let Arrival::Awaited { since } = &mut self.stage else { return Arrivals::Complete };
        if inventory.agents.is_empty() {
            return Arrivals::Outstanding;
        }
        let since: Instant = *since.get_or_insert(scene.now);
        let known = scene.observed.inventory.agents.iter();
        let gone = &scene.observed.gone;
        let all_known = known
            .filter(|(agent, facts)| facts.state != AgentState::Leaving && !gone.contains(*agent))
            .all(|(agent, _)| inventory.agents.contains_key(agent));
        let all = scene.observed.starting.is_empty() && all_known;
        if all || scene.now.duration_since(since) >= ARRIVALS_MAX {
            Arrivals::Complete
        } else {
            Arrivals::Outstanding
        }
    }

    fn note_losses(&self, reasons: &mut Vec<Reason>) {
        let lost = self.losses.lost.iter();
        reasons.extend(lost.map(|(agent, silence)| Reason::AgentLost {
            agent: agent.clone(),
            silent_seconds: silence.as_secs(),
        }));
        reasons.extend(self.losses.all_silent.map(|agents| Reason::AllSilent { agents }));
    }

    /// Someone holds another plan of our number or a higher one: the next plan gets a higher number still.
    fn note_outdated(&mut self, applied: &Applied) {
        let mut outcomes = applied.agents().values();
        if outcomes.any(|outcome| matches!(outcome, AssignOutcome::Outdated { .. })) {
            let above = Generation(applied.plan().generation.0.saturating_add(1));
            self.highest_seen = self.highest_seen.max(above);
        }
    }
}

/// Whether settings still do what would be chosen now; another size of the cache alone is no reason to restart anybody.
fn suits(before: &EngineSettings, sized: &EngineSettings) -> bool {
    let kv_cache_bytes = before.kv_cache_bytes;
    *before == EngineSettings { kv_cache_bytes, ..sized.clone() }
}
