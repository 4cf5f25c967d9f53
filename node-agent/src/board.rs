//! The agent's status: what `GetStatus` answers and watchers see.

use crate::limits::{RATE_WINDOW, STATUS_HEARTBEAT, STATUS_INTERVAL};
use crate::rate::Rate;
use engine::engine::EngineLoad;
use engine::exchange::PeerId;
use model::executor::ExpertAddress;
use proto::v1::{self, AgentPhase, AgentStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What the engine's thread last published.
#[derive(Clone, Debug, Default)]
pub struct EngineReport {
    pub load: EngineLoad,
    pub troubles: Vec<(PeerId, String)>,
}

/// The status and everyone who watches it.
#[derive(Debug)]
pub struct Board {
    status: watch::Sender<AgentStatus>,
    report: Mutex<EngineReport>,
    /// Tokens generated per second, as last sampled.
    rate: Mutex<f32>,
}

impl Board {
    /// An agent without an assignment.
    pub fn new(agent_id: &str, memory_bytes: u64) -> Self {
        let status = AgentStatus {
            agent_id: agent_id.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            memory_bytes,
            ..AgentStatus::default()
        };
        let report = Mutex::default();
        Self { status: watch::Sender::new(status), report, rate: Mutex::new(0.0) }
    }

    /// The first assignment's load begins.
    pub fn loading(&self, generation: u64, kernel_path: &str) {
        self.status.send_modify(|status| {
            status.generation = generation;
            status.kernel_path = kernel_path.into();
            status.error.clear();
            status.load = Some(v1::LoadProgress::default());
            if status.phase() != AgentPhase::Draining {
                status.set_phase(AgentPhase::Loading);
            }
        });
    }

    /// What is known of the model; a source that failed before has recovered.
    pub fn model(&self, facts: &v1::ModelFacts) {
        self.status.send_modify(|status| {
            status.model = Some(facts.clone());
            if status.phase() == AgentPhase::Failed && status.resident.is_empty() {
                let idle = status.generation == 0;
                status.set_phase(if idle { AgentPhase::Unassigned } else { AgentPhase::Loading });
                status.error.clear();
            }
        });
    }

    /// Bytes of the model on disk, and how many there will be.
    pub fn fetch(&self, bytes_loaded: u64, bytes_total: u64) {
        let fetch = Some(v1::LoadProgress { bytes_loaded, bytes_total });
        self.status.send_modify(|status| status.fetch = fetch);
    }

    /// Bytes loaded so far, and how many it will be.
    pub fn progress(&self, bytes_loaded: u64, bytes_total: u64) {
        let load = Some(v1::LoadProgress { bytes_loaded, bytes_total });
        self.status.send_modify(|status| status.load = load);
    }

    /// An assignment is in effect.
    pub fn resident(&self, generation: u64, context_length: usize, experts: &[ExpertAddress]) {
        self.status.send_modify(|status| {
            status.generation = generation;
            status.context_length = u32::try_from(context_length).unwrap_or(u32::MAX);
            status.resident = by_layer(experts);
            if status.phase() == AgentPhase::Failed {
                status.set_phase(AgentPhase::Loading);
            }
            status.error.clear();
        });
    }

    /// The self-test passed.
    pub fn ready(&self) {
        self.status.send_modify(|status| {
            if status.phase() == AgentPhase::Loading {
                status.set_phase(AgentPhase::Ready);
            }
        });
    }

    /// A load or the self-test failed.
    pub fn failed(&self, error: &str) {
        self.status.send_modify(|status| {
            // Draining is for good.
            if status.phase() != AgentPhase::Draining {
                status.set_phase(AgentPhase::Failed);
            }
            status.error = error.into();
        });
    }

    /// No new sequences from now on; there is no way back but a new process.
    pub fn drain(&self) {
        self.status.send_modify(|status| status.set_phase(AgentPhase::Draining));
    }

    pub fn phase(&self) -> AgentPhase {
        self.status.borrow().phase()
    }

    /// Called by the engine's thread.
    pub fn publish(&self, report: EngineReport) {
        *lock(&self.report) = report;
    }

    /// Sequences that run or wait.
    pub fn sequences(&self) -> usize {
        let report = lock(&self.report);
        report.load.sequences_running + report.load.sequences_waiting
    }

    /// The status of this moment.
    pub fn snapshot(&self) -> AgentStatus {
        let mut status = self.status.borrow().clone();
        self.fill(&mut status);
        status
    }

    /// Sees every later status; the current one is seen at once.
    pub fn watch(&self) -> watch::Receiver<AgentStatus> {
        self.status.send_modify(|status| self.fill(status));
        self.status.subscribe()
    }

    /// Samples the rate and tells watchers what changed, for as long as it is polled.
    pub async fn keep_fresh(&self) {
        let origin = Instant::now();
        let mut rate = Rate::new(RATE_WINDOW);
        let mut told = origin;
        let mut ticks = tokio::time::interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let generated = lock(&self.report).load.generated_tokens_total;
            *lock(&self.rate) = rate.sample(origin.elapsed(), generated);
            let due = told.elapsed() + STATUS_INTERVAL > STATUS_HEARTBEAT;
            let sent = self.status.send_if_modified(|status| {
                let before = status.clone();
                self.fill(status);
                due || *status != before
            });
            if sent {
                told = Instant::now();
            }
        }
    }

    fn fill(&self, status: &mut AgentStatus) {
        let EngineReport { load, troubles } = lock(&self.report).clone();
        status.current = Some(wire_load(&load, *lock(&self.rate)));
        status.troubles = troubles
            .into_iter()
            .map(|(PeerId(agent_id), reason)| v1::PeerTrouble { agent_id, reason })
            .collect();
    }
}

/// Poisoning is no matter: the values behind these locks are replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn by_layer(experts: &[ExpertAddress]) -> Vec<v1::LayerExperts> {
    let mut layers: Vec<v1::LayerExperts> = Vec::new();
    for ExpertAddress { layer, expert } in experts {
        match layers.last_mut() {
            Some(last) if last.layer == *layer => last.experts.push(*expert),
            _ => layers.push(v1::LayerExperts { layer: *layer, experts: vec![*expert] }),
        }
    }
    layers
}

fn wire_load(load: &EngineLoad, generated_tokens_per_second: f32) -> v1::Load {
    let gauge = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    // No `..`: a new counter must not be forgotten here.
    let EngineLoad {
        sequences_running,
        sequences_waiting,
        kv_blocks_used,
        kv_blocks_total,
        prompt_tokens_total,
        cached_tokens_total,
        generated_tokens_total,
        preemptions_total,
        expert_rows_local_total,
        expert_rows_remote_total,
        expert_failovers_total,
        drafted_tokens_total,
        accepted_tokens_total,
    } = *load;
    v1::Load {
        sequences_running: gauge(sequences_running),
        sequences_waiting: gauge(sequences_waiting),
        kv_blocks_used: gauge(kv_blocks_used),
        kv_blocks_total: gauge(kv_blocks_total),
        prompt_tokens_total,
        generated_tokens_total,
        preemptions_total,
        expert_rows_local_total,
        expert_rows_remote_total,
        expert_failovers_total,
        drafted_tokens_total,
        accepted_tokens_total,
        generated_tokens_per_second,
        cached_tokens_total,
    }
}

/// How long a step of [`Board::keep_fresh`] may be off at most; watchers rely on it.
const _: () = assert!(STATUS_HEARTBEAT.as_millis() < Duration::from_secs(1).as_millis());
