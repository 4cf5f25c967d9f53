//! The driver: observe → plan → lint → apply → status, once for every substrate.

use crate::apply::{Application, Applied, Contacts, RouterOutcome, apply};
use crate::assign::{AssignOutcome, drain};
use crate::decide::{Arrivals, Decision, Situation, decide};
use crate::derive::{View, derive, releasable};
use crate::dial::Dialer;
use crate::reason::Reason;
use crate::report::{Report, Reports};
use crate::status::{DeploymentStatus, Phase};
use crate::substrate::{Observed, Substrate};
use crate::watch::Board;
use planner::identity::{AgentId, Generation};
use planner::inventory::AgentState;
use planner::plan::Plan;
use planner::spec::ServingSpec;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// Reconciles happen when something changed; this is for what nobody reports, such as a call that failed.
const RESYNC: Duration = Duration::from_secs(1);
/// A router connects to new homes on its own and tells nobody; this is how soon it is asked again. It bounds
/// what the first answer after a start waits for nothing.
const RESYNC_ROUTER: Duration = Duration::from_millis(20);

/// Why a reconcile could not even begin. Everything later is part of the status.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("read the recorded plan")]
    Recorded(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps one deployment as its specification says.
#[derive(Debug)]
pub struct Reconciler<S> {
    substrate: S,
    spec: ServingSpec,
    previous: Option<Plan>,
    board: Board,
    contacts: Contacts,
    highest_seen: Generation,
    phase: Phase,
    stage: Stage,
    resync: Duration,
}

/// Whether this reconciler has planned already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not yet: agents of the first plan may still be on their way up.
    Arriving,
    Planned,
}

impl<S: Substrate> Reconciler<S> {
    /// Takes up where the recorded plan stands; agents and routers are on this machine.
    ///
    /// # Errors
    /// [`ReconcileError`] when the record cannot be read.
    pub async fn start(substrate: S, spec: ServingSpec) -> Result<Self, ReconcileError> {
        Self::start_with(substrate, spec, Dialer::plaintext()).await
    }

    /// Takes up where the recorded plan stands; agents and routers are reached with `dialer`.
    ///
    /// # Errors
    /// [`ReconcileError`] when the record cannot be read.
    pub async fn start_with(
        mut substrate: S,
        spec: ServingSpec,
        dialer: Dialer,
    ) -> Result<Self, ReconcileError> {
        let recorded = substrate.recorded().await;
        let recorded = recorded.map_err(|error| ReconcileError::Recorded(Box::new(error)))?;
        let previous = recorded.filter(|plan| plan.deployment == spec.name);
        let highest_seen = previous.as_ref().map_or(Generation(0), |plan| plan.generation);
        Ok(Self {
            substrate,
            spec,
            previous,
            board: Board::new(dialer.clone()),
            contacts: Contacts::new(dialer),
            highest_seen,
            phase: Phase::Pending,
            stage: Stage::Arriving,
            resync: RESYNC,
        })
    }

    /// One round. Touches the network; ends within the sum of the calls' deadlines.
    pub async fn reconcile(&mut self) -> DeploymentStatus {
        let (observed, reports) = self.observe().await;
        let (applied, reasons) = self.plan_and_apply(&observed, &reports).await;
        let view = View {
            spec: &self.spec,
            observed: &observed,
            reports: &reports,
            reasons,
            before: self.phase,
        };
        let status = derive(applied.as_ref(), view);
        self.phase = status.phase;
        let router_connects =
            status.reasons.iter().any(|reason| matches!(reason, Reason::RouterWithoutHomes { .. }));
        self.resync =
            if router_connects && status.agents.ready > 0 { RESYNC_ROUTER } else { RESYNC };
        self.release_covered(&observed, &reports).await;
        if let Err(error) = self.substrate.publish(&status).await {
            tracing::warn!(%error, "the status could not be published");
        }
        status
    }

    /// Reconciles whenever something changes, telling `statuses` each time, until the future is dropped.
    pub async fn run(&mut self, statuses: &watch::Sender<DeploymentStatus>) {
        loop {
            let status = self.reconcile().await;
            statuses.send_replace(status);
            self.changed().await;
        }
    }

    /// Resolves when another round may be of use. Cancel safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.substrate.changed() => {}
            () = self.board.changed() => {}
            () = tokio::time::sleep(self.resync) => {}
        }
    }

    /// Another wish for the same deployment; takes effect with the next round.
    pub fn set_spec(&mut self, spec: ServingSpec) {
        self.spec = spec;
    }

    /// What it was made with.
    pub fn substrate_mut(&mut self) -> &mut S {
        &mut self.substrate
    }

    /// The plan that was applied last.
    pub fn plan(&self) -> Option<&Plan> {
        self.previous.as_ref()
    }

    /// Stops everything that belongs to the deployment.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn stop(mut self) -> Result<(), S::Error> {
        self.board.follow(&BTreeMap::new());
        self.substrate.stop().await
    }

    async fn observe(&mut self) -> (Observed, Reports) {
        let ensured = self.substrate.ensure(self.spec.agents.min).await;
        let mut observed = match self.substrate.observe().await {
            Ok(observed) => observed,
            Err(error) => {
                Observed { reasons: vec![failed("observe", &error)], ..Observed::default() }
            }
        };
        if let Err(error) = ensured {
            observed.reasons.push(failed("start agents and router", &error));
        }
        let answering = observed.inventory.agents.iter();
        let answering = answering
            .filter(|(_, facts)| facts.state != AgentState::Restarting)
            .map(|(agent, facts)| (agent.clone(), facts.address.clone()));
        self.board.follow(&answering.collect());
        let reports = self.board.reports();
        let generations = reports.values().filter_map(Report::generation);
        self.highest_seen = generations.fold(self.highest_seen, Generation::max);
        (observed, reports)
    }

    async fn plan_and_apply(
        &mut self,
        observed: &Observed,
        reports: &Reports,
    ) -> (Option<Applied>, Vec<Reason>) {
        let mut reasons = Vec::new();
        let unseen = !observed.starting.is_empty() || observed.inventory.agents.is_empty();
        let arrivals = match self.stage {
            Stage::Arriving if unseen => Arrivals::Outstanding,
            Stage::Arriving | Stage::Planned => Arrivals::Complete,
        };
        let decided = decide(&Situation {
            spec: &self.spec,
            inventory: &observed.inventory,
            arrivals,
            previous: self.previous.as_ref(),
            highest_seen: self.highest_seen,
        });
        match decided {
            Ok(Decision::AwaitAgents) => return (None, reasons),
            Ok(Decision::Keep { waiting }) => {
                self.stage = Stage::Planned;
                reasons.extend(waiting.iter().map(Reason::shortfall));
            }
            Ok(Decision::Move { plan, waiting }) => {
                reasons.extend(waiting.iter().map(Reason::shortfall));
                match self.substrate.record(&plan).await {
                    Ok(()) => {
                        tracing::info!(generation = plan.generation.0, "new plan");
                        self.stage = Stage::Planned;
                        self.previous = Some(plan);
                    }
                    Err(error) => reasons.push(failed("record the plan", &error)),
                }
            }
            Err(error) => reasons.push(Reason::NoPlan { error: error.to_string() }),
        }
        let Some(plan) = self.previous.clone() else { return (None, reasons) };
        let inventory = &observed.inventory;
        let work = Application { plan, inventory, reports, routers: &observed.routers };
        let applied = apply(work, &mut self.contacts).await;
        self.note_outdated(&applied);
        (Some(applied), reasons)
    }

    /// Someone holds another plan of our number or a higher one: the next plan gets a higher number still.
    fn note_outdated(&mut self, applied: &Applied) {
        let agents = applied.agents().values();
        let outdated = agents.filter(|outcome| matches!(outcome, AssignOutcome::Outdated { .. }));
        let routers = applied.routers().values();
        let routers = routers.filter(|outcome| matches!(outcome, RouterOutcome::Outdated { .. }));
        if outdated.count() + routers.count() > 0 {
            let above = Generation(applied.plan().generation.0.saturating_add(1));
            self.highest_seen = self.highest_seen.max(above);
        }
    }

    /// Drains leaving agents, and lets go of those whose experts others hold and whose sequences are done.
    async fn release_covered(&mut self, observed: &Observed, reports: &Reports) {
        let leaving: Vec<(&AgentId, &str)> = observed
            .inventory
            .agents
            .iter()
            .filter(|(_, facts)| facts.state == AgentState::Leaving)
            .map(|(agent, facts)| (agent, facts.address.as_str()))
            .collect();
        for (agent, address) in leaving {
            let drained = match self.contacts.dialer().agent(address) {
                Ok(channel) => drain(channel).await,
                Err(error) => Err(error.to_string()),
            };
            if let Err(cause) = drained {
                tracing::warn!(%agent, cause, "the leaving agent does not drain");
            }
            if releasable(agent, self.previous.as_ref(), observed, reports)
                && let Err(error) = self.substrate.release(agent).await
            {
                tracing::warn!(%agent, %error, "the leaving agent could not be stopped");
            }
        }
    }
}

fn failed(verb: &str, error: &dyn std::error::Error) -> Reason {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    Reason::SubstrateFailed { verb: verb.to_owned(), error: text }
}
