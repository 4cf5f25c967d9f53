//! The driver: observe → plan → lint → apply → status, once for every substrate.

use crate::apply::{Applied, Contacts, resuming_homes};
use crate::decide::Decided;
use crate::derive::{View, derive};
use crate::dial::Dialer;
use crate::drain::Drains;
use crate::lost::{Listening, Losses, Silences};
use crate::numbers::{Circumstances, Numbers};
use crate::reason::Reason;
use crate::report::{Report, Reports};
use crate::rolling;
use crate::routers::{RouterBoard, RouterDuty, RouterOutcome, RouterWords};
use crate::signals::{sequences, signals, staying};
use crate::status::{DeploymentStatus, Phase};
use crate::substrate::{Observed, Substrate, Wanted};
use crate::watch::Board;
use planner::identity::{AgentId, Generation};
use planner::inventory::AgentState;
use planner::moment::Moment;
use planner::plan::Plan;
use planner::rollout::{AgentView, Patience, RolloutInput, RolloutMemory, Stage, Step, next};
use planner::spec::Goal;
use proto::v1::Home;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

mod acts;
mod planning;

/// Reconciles happen when something changed; this is for what nobody reports, such as a call that failed, while
/// something is under way.
const RESYNC: Duration = Duration::from_secs(1);
/// The same when all is well and nothing runs: load that begins is seen this soon.
const RESYNC_QUIET: Duration = Duration::from_secs(3);
/// The same without agents. Routers and the substrate wake the reconcile at once.
const RESYNC_ASLEEP: Duration = Duration::from_secs(30);

/// How long the first round waits to hear those of a plan that it takes up; by then whoever is gone counts as silent.
const TAKE_UP_MAX: Duration = Duration::from_secs(3);

/// Why a reconcile could not even begin. Everything later is part of the status.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("read the recorded plan")]
    Recorded(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps one deployment as its goal says.
#[derive(Debug)]
pub struct Reconciler<S> {
    substrate: S,
    goal: Goal,
    duty: RouterDuty,
    previous: Option<Plan>,
    board: Board,
    routers: RouterBoard,
    contacts: Contacts,
    drains: Drains,
    silences: Silences,
    numbers: Numbers,
    rollout: RolloutMemory,
    patience: Patience,
    /// Agents that only a restart brings to what the plan says, and why.
    refused: BTreeMap<AgentId, String>,
    /// When an agent that was lost was replaced.
    replaced: BTreeMap<AgentId, Instant>,
    /// Memory of each agent as it was last known, in bytes.
    memory_bytes: BTreeMap<AgentId, u64>,
    decided: Option<Decided>,
    highest_seen: Generation,
    /// Hash of the plan of that number.
    hash: Option<(Generation, String)>,
    /// What the last round saw.
    seen: Observed,
    losses: Losses,
    phase: Phase,
    stage: Arrival,
    takes_up: TakesUp,
    resync: Duration,
    began: Instant,
}

/// Whether this reconciler has planned already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Not yet: agents of the first plan may still be on their way up. Since the first of them could be planned for.
    Awaited {
        since: Option<Instant>,
    },
    Planned,
}

/// Whether the first round finds a deployment that an earlier run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakesUp {
    Nothing,
    APlan,
}

/// What one round sees and decides from.
#[derive(Debug)]
struct Scene {
    now: Instant,
    wanted: Wanted,
    observed: Observed,
    reports: Reports,
    words: RouterWords,
    views: BTreeMap<AgentId, AgentView>,
    step: Step,
}

impl<S: Substrate> Reconciler<S> {
    /// Takes up where the recorded plan stands; agents and routers are on this machine.
    ///
    /// # Errors
    /// [`ReconcileError`] when the record cannot be read.
    pub async fn start(substrate: S, goal: Goal) -> Result<Self, ReconcileError> {
        Self::start_with(substrate, goal, Dialer::plaintext()).await
    }

    /// Takes up where the recorded plan stands; agents and routers are reached with `dialer`.
    ///
    /// # Errors
    /// [`ReconcileError`] when the record cannot be read.
    pub async fn start_with(
        mut substrate: S,
        goal: Goal,
        dialer: Dialer,
    ) -> Result<Self, ReconcileError> {
        let recorded = substrate.recorded().await;
        let recorded = recorded.map_err(|error| ReconcileError::Recorded(Box::new(error)))?;
        let previous = recorded.filter(|plan| plan.deployment == goal.name);
        let takes_up = if previous.is_some() { TakesUp::APlan } else { TakesUp::Nothing };
        let highest_seen = previous.as_ref().map_or(Generation(0), |plan| plan.generation);
        Ok(Self {
            substrate,
            goal,
            duty: RouterDuty::Active { resuming: Vec::new() },
            previous,
            board: Board::new(dialer.clone()),
            routers: RouterBoard::new(dialer.clone()),
            contacts: Contacts::new(dialer.clone()),
            drains: Drains::new(dialer),
            silences: Silences::default(),
            numbers: Numbers::default(),
            rollout: RolloutMemory::default(),
            patience: Patience::default(),
            refused: BTreeMap::new(),
            replaced: BTreeMap::new(),
            memory_bytes: BTreeMap::new(),
            decided: None,
            highest_seen,
            hash: None,
            seen: Observed::default(),
            losses: Losses::default(),
            phase: Phase::Pending,
            stage: Arrival::Awaited { since: None },
            takes_up,
            resync: RESYNC,
            began: Instant::now(),
        })
    }

    // -- wishes

    /// Another wish for the same deployment; takes effect with the next round.
    pub fn set_goal(&mut self, goal: Goal) {
        self.goal = goal;
    }

    /// What to do with routers from the next round on. At first: active, without an earlier group.
    pub fn set_duty(&mut self, duty: RouterDuty) {
        self.duty = duty;
    }

    /// The next plan gets a higher number than this, as when another group's plans went before.
    pub fn raise_generation(&mut self, above: Generation) {
        self.highest_seen = self.highest_seen.max(above);
    }

    /// As a candidate it has at least this many agents, within its goal's range: as many as serve now, so that what it
    /// takes over does not swamp it.
    pub fn want_at_least(&mut self, agents: u32) {
        self.numbers.want_at_least(agents);
    }

    /// How patient rollouts are.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    // -- getters

    /// What it was made with.
    pub fn substrate_mut(&mut self) -> &mut S {
        &mut self.substrate
    }

    /// The plan that was applied last.
    pub fn plan(&self) -> Option<&Plan> {
        self.previous.as_ref()
    }

    /// The homes of its plan for the reconciler of the group that comes after it.
    pub fn resuming_homes(&self) -> Vec<Home> {
        self.previous.as_ref().map(resuming_homes).unwrap_or_default()
    }

    /// Sequences that run or wait on its agents, as far as they answer.
    pub fn sequences(&self) -> u32 {
        sequences(&self.board.reports())
    }

    // -- rounds

    /// One round. Touches the network; ends within a few seconds whoever hangs.
    pub async fn reconcile(&mut self) -> DeploymentStatus {
        let mut status = self.round().await;
        // One that takes up a plan has not heard anybody yet: what it would say of a deployment that serves is untrue.
        let deadline = Instant::now() + TAKE_UP_MAX;
        while self.takes_up == TakesUp::APlan && self.is_unheard() {
            let heard = async {
                tokio::select! {
                    () = self.board.changed() => {}
                    () = self.routers.changed() => {}
                }
            };
            if tokio::time::timeout_at(deadline, heard).await.is_err() {
                break;
            }
            let scaled = std::mem::take(&mut status.scaled);
            status = self.round().await;
            status.scaled.splice(0..0, scaled);
        }
        self.takes_up = TakesUp::Nothing;
        self.phase = status.phase;
        if let Err(error) = self.substrate.publish(&status).await {
            tracing::warn!(%error, "the status could not be published");
        }
        status
    }

    /// Somebody who should answer has not yet, or has only heard of others' homes.
    fn is_unheard(&self) -> bool {
        let agents = self.board.reports();
        let told = self.routers.told().is_some();
        let routers = self.routers.words();
        agents.values().any(|report| matches!(report, Report::Awaited))
            || routers.values().any(|word| match word {
                RouterOutcome::Awaited => true,
                RouterOutcome::Answers(_) | RouterOutcome::Outdated { .. } => told,
                RouterOutcome::Holds(status) => status.homes_ready == 0,
                RouterOutcome::Failed { .. } => false,
            })
    }

    async fn round(&mut self) -> DeploymentStatus {
        let now = Instant::now();
        let mut reasons = Vec::new();
        let scaled = match self.begin().await {
            Ok(()) => self.decide_numbers(now),
            Err(reason) => {
                reasons.push(reason);
                Vec::new()
            }
        };
        let scene = self.look(now).await;
        reasons.extend(rolling::reasons(&scene.step, &scene.views, &self.refused));
        let applied = self.plan_and_apply(&scene, &mut reasons).await;
        self.tell_routers(&scene, applied.as_ref());
        self.act(&scene, applied.as_ref()).await;
        let status = self.derive(&scene, applied.as_ref(), reasons);
        self.resync = self.pause(&scene, &status);
        self.seen = scene.observed;
        DeploymentStatus { scaled, cost: self.numbers.cost(&self.goal), ..status }
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
            () = self.routers.changed() => {}
            () = tokio::time::sleep(self.resync) => {}
        }
    }

    /// Stops everything that belongs to the deployment.
    ///
    /// # Errors
    /// The substrate's.
    pub async fn stop(mut self) -> Result<(), S::Error> {
        self.board.follow(&BTreeMap::new());
        self.routers.follow(&[], &[]);
        self.substrate.stop().await
    }

    /// Learns what exists before anything is asked for: a start must neither wake nor shrink a deployment.
    async fn begin(&mut self) -> Result<(), Reason> {
        if self.numbers.have_begun() {
            return Ok(());
        }
        let observed = self.substrate.observe().await;
        let observed = observed.map_err(|error| failed("observe", &error))?;
        let count = |things: usize| u32::try_from(things).unwrap_or(u32::MAX);
        let agents = count(staying(&observed).len());
        self.numbers.begin(&self.goal, agents, count(observed.routers.len()));
        Ok(())
    }

    fn decide_numbers(&mut self, now: Instant) -> Vec<planner::scale::ScaleChange> {
        let (reports, words) = (self.board.reports(), self.routers.words());
        let signals = signals(&self.seen, &reports, &self.losses, &words);
        let changes = self.numbers.decide(&Circumstances {
            now: self.moment(now),
            goal: &self.goal,
            duty: &self.duty,
            plan: self.previous.as_ref(),
            floor: self.floor(&reports),
            signals: &signals,
            words: &words,
        });
        for change in &changes {
            tracing::info!(%change, "scale");
        }
        changes
    }

    async fn look(&mut self, now: Instant) -> Scene {
        let wanted = self.numbers.wanted(&self.duty);
        let ensured = match wanted {
            Some(wanted) => self.substrate.ensure(wanted).await,
            None => Ok(()),
        };
        let mut observed = match self.substrate.observe().await {
            Ok(observed) => observed,
            Err(error) => {
                let reasons = vec![failed("observe", &error)];
                Observed { reasons, ..self.seen.clone() }
            }
        };
        if let Err(error) = ensured {
            observed.reasons.push(failed("start agents and routers", &error));
        }
        let answering = observed.inventory.agents.iter();
        let answering = answering
            .filter(|(_, facts)| facts.state != AgentState::Restarting)
            .map(|(agent, facts)| (agent.clone(), facts.address.clone()));
        self.board.follow(&answering.collect());
        self.routers.follow(&observed.routers, &observed.routers_ending);
        let reports = self.board.reports();
        let generations = reports.values().filter_map(Report::generation);
        self.highest_seen = generations.fold(self.highest_seen, Generation::max);
        self.listen(now, &observed, &reports);
        let views = rolling::views(&observed, &reports, &self.losses, &self.refused);
        let input = RolloutInput { now: self.moment(now), agents: &views, patience: self.patience };
        // Who has not had time to answer looks as if it served nobody.
        let heard = !views.keys().any(|it| matches!(reports.get(it), Some(Report::Awaited)));
        let mut step = Step::Done;
        if heard {
            (step, self.rollout) = next(&input, &self.rollout);
        }
        let words = self.routers.words();
        let wanted = wanted.unwrap_or(Wanted { agents: self.goal.agents.min, routers: None });
        Scene { now, wanted, observed, reports, words, views, step }
    }

    fn listen(&mut self, now: Instant, observed: &Observed, reports: &Reports) {
        // While agents are awaited, nobody is missed.
        let plan = self.previous.as_ref().filter(|_| self.stage == Arrival::Planned);
        let planned = plan.iter().flat_map(|plan| plan.agents.keys().cloned()).collect();
        let returning = self.rollout.subject.as_ref();
        let returning = returning.filter(|subject| subject.stage == Stage::Returning);
        self.losses = self.silences.judge(&Listening {
            now,
            observed,
            reports,
            planned: &planned,
            returning: returning.map(|subject| &subject.agent),
        });
    }

    fn derive(
        &mut self,
        scene: &Scene,
        applied: Option<&Applied>,
        reasons: Vec<Reason>,
    ) -> DeploymentStatus {
        let hash = applied.map(|applied| self.hash_of(applied.plan())).unwrap_or_default();
        derive(
            applied,
            View {
                goal: &self.goal,
                wanted: scene.wanted,
                observed: &scene.observed,
                reports: &scene.reports,
                losses: &self.losses,
                routers: &scene.words,
                reasons,
                before: self.phase,
                hash,
            },
        )
    }

    fn hash_of(&mut self, plan: &Plan) -> String {
        if let Some((generation, hash)) = &self.hash
            && *generation == plan.generation
        {
            return hash.clone();
        }
        let hash = plan.hash();
        self.hash = Some((plan.generation, hash.clone()));
        hash
    }

    fn pause(&self, scene: &Scene, status: &DeploymentStatus) -> Duration {
        let agents = scene.observed.inventory.agents.len() + scene.observed.starting.len();
        let quiet = scene.step == Step::Done && sequences(&scene.reports) == 0;
        match status.phase {
            Phase::Sleeping | Phase::Pending if agents == 0 => RESYNC_ASLEEP,
            Phase::Available if quiet => RESYNC_QUIET,
            Phase::Pending
            | Phase::Sleeping
            | Phase::Loading
            | Phase::Available
            | Phase::Degraded
            | Phase::Failed => RESYNC,
        }
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment::default().after(now.duration_since(self.began))
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
