//! Which agent may be restarted now: one at a time, drained, while others hold what it holds.

use crate::identity::{AgentId, ExpertId};
use crate::moment::Moment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How patient a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long a drained agent's sequences may take to end. The rest moves to other homes, which repeats their
    /// prefill and loses nothing.
    pub drain_max: Duration,
    /// How long a restarted agent may show no progress.
    pub progress_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { drain_max: Duration::from_secs(60), progress_max: Duration::from_secs(600) }
    }
}

/// What a decision is made from.
#[derive(Debug)]
pub struct RolloutInput<'a> {
    pub now: Moment,
    /// Every agent that was asked for and stays, up or not.
    pub agents: &'a BTreeMap<AgentId, AgentView>,
    pub patience: Patience,
}

/// One agent as a rollout sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    /// It runs with something older than what is wanted, or can only become what is wanted by a restart.
    pub needs_restart: bool,
    pub health: Health,
    /// Sequences that run or wait on it.
    pub sequences: u32,
    /// Grows while it comes up: bytes fetched and loaded.
    pub progress: u64,
    /// Experts that it has in memory.
    pub resident: BTreeSet<ExpertId>,
}

/// Whether an agent serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Loaded; it takes sequences, or would if it were not drained.
    Ready,
    /// Coming up, being replaced, or silent.
    NotReady,
    /// It does not serve and will not by waiting.
    Broken { cause: String },
}

/// What a rollout remembers, kept by the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutMemory {
    pub subject: Option<Subject>,
}

/// The agent whose turn it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    pub agent: AgentId,
    pub stage: Stage,
    pub experts: Experts,
    /// When the stage began, or progress was last seen in it.
    pub since: Moment,
    pub progress: u64,
}

/// What becomes of its experts meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Experts {
    /// It keeps them in the plan: others have copies, or nobody else can hold them.
    Stay,
    /// Others were given them, and have them until it is back.
    Moved,
}

/// How far its turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Others take its experts, for nobody else has some of them.
    Evacuating,
    /// It takes no new sequences.
    Draining,
    /// The same, and nobody else can hold its experts: requests are held while it restarts.
    DrainingAlone,
    /// It was restarted and is not ready yet.
    Returning,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing needs a restart.
    Done,
    /// Plan its experts onto others too. If that is impossible, say so with [`cannot_evacuate`].
    Evacuate(AgentId),
    /// Plan it as no home, and ask it to drain.
    Drain(AgentId),
    /// Restart it.
    Restart(AgentId),
    Wait(Waiting),
    /// No further restart until a person changes something.
    Stopped(Stopped),
}

/// Why the next restart waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Waiting {
    #[error("{agent} was restarted and is not ready yet")]
    Returning { agent: AgentId },
    #[error("{agent} is not ready")]
    NotReady { agent: AgentId },
    #[error("{agent} alone has some of its experts in memory")]
    Uncovered { agent: AgentId },
}

/// Why a rollout stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Stopped {
    #[error("{agent}, which is up to date, does not come up: {cause}")]
    Broken { agent: AgentId, cause: String },
    #[error("{agent} was restarted and has made no progress for {seconds} s")]
    NoProgress { agent: AgentId, seconds: u64 },
}

/// The next step, and what to remember for the one after.
pub fn next(input: &RolloutInput<'_>, memory: &RolloutMemory) -> (Step, RolloutMemory) {
    let subject = memory.subject.clone().filter(|it| input.agents.contains_key(&it.agent));
    // Broken agents that would be restarted anyway serve nobody: each may go at once.
    if let Some(agent) = broken(input) {
        return (Step::Restart(agent.clone()), returning(input, agent, Experts::Stay));
    }
    if let Some(subject) = subject {
        return go_on(input, subject);
    }
    begin(input)
}

/// The planner cannot place the subject's experts on others: it is restarted without, and requests are held.
pub fn cannot_evacuate(memory: &RolloutMemory, now: Moment) -> RolloutMemory {
    let mut next = memory.clone();
    if let Some(subject) = next.subject.as_mut().filter(|it| it.stage == Stage::Evacuating) {
        (subject.stage, subject.since) = (Stage::DrainingAlone, now);
    }
    next
}

fn broken<'a>(input: &RolloutInput<'a>) -> Option<&'a AgentId> {
    let broken = |view: &AgentView| matches!(view.health, Health::Broken { .. });
    let mut found = input.agents.iter().filter(|(_, view)| view.needs_restart && broken(view));
    found.next().map(|(agent, _)| agent)
}

fn returning(input: &RolloutInput<'_>, agent: &AgentId, experts: Experts) -> RolloutMemory {
    let (agent, stage) = (agent.clone(), Stage::Returning);
    let subject = Subject { agent, stage, experts, since: input.now, progress: 0 };
    RolloutMemory { subject: Some(subject) }
}

/// The turn of an agent goes on until it is ready again.
fn go_on(input: &RolloutInput<'_>, subject: Subject) -> (Step, RolloutMemory) {
    let Some(view) = input.agents.get(&subject.agent) else { return begin(input) };
    match subject.stage {
        Stage::Returning => go_on_returning(input, subject, view),
        // The wish changed back before anything was done that only a restart undoes.
        Stage::Evacuating | Stage::Draining | Stage::DrainingAlone if !view.needs_restart => {
            begin(input)
        }
        Stage::Evacuating if covered(input, &subject.agent) => {
            let agent = subject.agent.clone();
            let (stage, experts) = (Stage::Draining, Experts::Moved);
            let subject = Subject { stage, experts, since: input.now, ..subject };
            (Step::Drain(agent), RolloutMemory { subject: Some(subject) })
        }
        Stage::Evacuating => {
            (Step::Evacuate(subject.agent.clone()), RolloutMemory { subject: Some(subject) })
        }
        Stage::Draining | Stage::DrainingAlone => {
            let waited = input.now.since(subject.since);
            let over = waited >= input.patience.drain_max || view.health != Health::Ready;
            // At least one look after it was asked to drain, or a sequence could come in between.
            let idle = view.sequences == 0 && waited > Duration::ZERO;
            if !(over || idle) {
                let agent = subject.agent.clone();
                return (Step::Drain(agent), RolloutMemory { subject: Some(subject) });
            }
            // Whoever went down meanwhile comes first, for its experts may be on this one alone by now.
            let patience = input.patience.drain_max + input.patience.progress_max;
            if waited < patience
                && let Some(waiting) = hindrance(input, &subject)
            {
                return (Step::Wait(waiting), RolloutMemory { subject: Some(subject) });
            }
            let agent = subject.agent;
            let memory = returning(input, &agent, subject.experts);
            (Step::Restart(agent), memory)
        }
    }
}

/// Why a drained agent may not be restarted yet.
fn hindrance(input: &RolloutInput<'_>, subject: &Subject) -> Option<Waiting> {
    let mut others = input.agents.iter().filter(|(agent, _)| **agent != subject.agent);
    // A drained agent takes no new sequences: when no other one does, waiting serves nobody.
    if !others.clone().any(|(_, view)| view.health == Health::Ready) {
        return None;
    }
    if let Some((agent, _)) = others.find(|(_, view)| view.health != Health::Ready) {
        return Some(Waiting::NotReady { agent: agent.clone() });
    }
    let alone = subject.stage == Stage::DrainingAlone;
    let agent = subject.agent.clone();
    (!alone && !covered(input, &agent)).then_some(Waiting::Uncovered { agent })
}

fn go_on_returning(
    input: &RolloutInput<'_>,
    mut subject: Subject,
    view: &AgentView,
) -> (Step, RolloutMemory) {
    let agent = subject.agent.clone();
    match &view.health {
        Health::Ready if !view.needs_restart => return begin(input),
        Health::Ready | Health::NotReady => {}
        Health::Broken { cause } => {
            let stopped = Stopped::Broken { agent, cause: cause.clone() };
            return (Step::Stopped(stopped), RolloutMemory { subject: Some(subject) });
        }
    }
    if view.progress > subject.progress {
        (subject.progress, subject.since) = (view.progress, input.now);
    }
    let waited = input.now.since(subject.since);
    let experts = subject.experts;
    let memory = RolloutMemory { subject: Some(subject) };
    if waited < input.patience.progress_max {
        return (Step::Wait(Waiting::Returning { agent }), memory);
    }
    // Something newer is wanted by now, which may be the cure.
    if view.needs_restart {
        let memory = returning(input, &agent, experts);
        return (Step::Restart(agent), memory);
    }
    let seconds = waited.as_secs();
    (Step::Stopped(Stopped::NoProgress { agent, seconds }), memory)
}

/// Chooses whose turn is next.
fn begin(input: &RolloutInput<'_>) -> (Step, RolloutMemory) {
    let idle = RolloutMemory::default();
    let mut needing: Vec<(&AgentId, &AgentView)> =
        input.agents.iter().filter(|(_, view)| view.needs_restart).collect();
    if needing.is_empty() {
        return (Step::Done, idle);
    }
    for (agent, view) in input.agents.iter().filter(|(_, view)| !view.needs_restart) {
        if let Health::Broken { cause } = &view.health {
            let stopped = Stopped::Broken { agent: agent.clone(), cause: cause.clone() };
            return (Step::Stopped(stopped), idle);
        }
    }
    // One that serves nobody costs nothing to restart. Any other one waits until nothing else is down.
    let down = |view: &AgentView| view.health == Health::NotReady;
    if let Some((agent, _)) = needing.iter().find(|(_, view)| down(view)) {
        let memory = returning(input, agent, Experts::Stay);
        return (Step::Restart((*agent).clone()), memory);
    }
    if let Some((agent, _)) = input.agents.iter().find(|(_, view)| down(view)) {
        return (Step::Wait(Waiting::NotReady { agent: agent.clone() }), idle);
    }
    // Those whose experts others hold first, the least busy of them first.
    needing.sort_by_key(|(agent, view)| (!covered(input, agent), view.sequences, (*agent).clone()));
    let Some((agent, _)) = needing.first() else { return (Step::Done, idle) };
    let stage = if covered(input, agent) { Stage::Draining } else { Stage::Evacuating };
    let agent = (*agent).clone();
    let subject = Subject {
        agent: agent.clone(),
        stage,
        experts: Experts::Stay,
        since: input.now,
        progress: 0,
    };
    let memory = RolloutMemory { subject: Some(subject) };
    match stage {
        Stage::Evacuating => (Step::Evacuate(agent), memory),
        Stage::Draining | Stage::DrainingAlone | Stage::Returning => (Step::Drain(agent), memory),
    }
}

/// Whether ready agents hold everything that this one holds, and at least one of them serves.
fn covered(input: &RolloutInput<'_>, agent: &AgentId) -> bool {
    let Some(view) = input.agents.get(agent) else { return true };
    let others: Vec<&AgentView> = input
        .agents
        .iter()
        .filter(|(other, view)| *other != agent && view.health == Health::Ready)
        .map(|(_, view)| view)
        .collect();
    !others.is_empty()
        && view
            .resident
            .iter()
            .all(|expert| others.iter().any(|other| other.resident.contains(expert)))
}
