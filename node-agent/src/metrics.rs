//! What Prometheus reads. Names are the router's where both measure the same, after vLLM's.

use crate::limits::{EXCHANGE_SECONDS_BUCKETS, STEP_SECONDS_BUCKETS};
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use proto::v1::{AgentPhase, AgentStatus};
use std::time::Duration;

/// Labels of `fetched_bytes`.
pub const FROM_SOURCE: &str = "source";
pub const FROM_PEER: &str = "peer";

/// Before every name.
const PREFIX: &str = "boyle_agent";

/// Everything that is measured. What the status tells is copied from it when somebody reads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// One forward pass.
    pub step_seconds: Histogram,
    /// One call to a peer, from dispatch to its answer.
    pub exchange_seconds: Histogram,
    pub exchange_rows_sent: IntCounter,
    pub experts_assigned: IntGauge,
    pub model_load_seconds: Gauge,
    /// By where they came from: [`FROM_SOURCE`] or [`FROM_PEER`].
    pub fetched_bytes: IntCounterVec,
    pub fetch_retries: IntCounter,
    copied: Copied,
}

/// Copies of what the status tells.
#[derive(Debug)]
struct Copied {
    requests_running: IntGauge,
    requests_waiting: IntGauge,
    kv_cache_usage_ratio: Gauge,
    kv_blocks: IntGauge,
    kv_blocks_used: IntGauge,
    prompt_tokens: IntCounter,
    prompt_tokens_cached: IntCounter,
    generation_tokens: IntCounter,
    preemptions: IntCounter,
    drafted_tokens: IntCounter,
    accepted_tokens: IntCounter,
    expert_rows: IntCounterVec,
    failovers: IntCounter,
    experts_loaded: IntGauge,
    load_bytes: IntGaugeVec,
    fetch_bytes: IntGaugeVec,
    plan_generation: IntGauge,
    peers_in_trouble: IntGauge,
    memory_bytes: IntGauge,
    phase: IntGaugeVec,
    ready: IntGauge,
    engine_stalled_seconds: Gauge,
}

/// Makes and registers metrics under one prefix.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("{PREFIX}_{name}"), help)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::with_opts(Self::opts(name, help))?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Self::opts(name, help), &[label])?;
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::with_opts(Self::opts(name, help))?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(Self::opts(name, help), &[label])?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn float(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        let gauge = Gauge::with_opts(Self::opts(name, help))?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(opts)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// Only for a name that is used twice or is none.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let build = make.gauges("build_info", "Always 1; the version that runs.", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            step_seconds: make.histogram(
                "step_seconds",
                "One forward pass over the batch.",
                &STEP_SECONDS_BUCKETS,
            )?,
            exchange_seconds: make.histogram(
                "exchange_seconds",
                "One expert call to a peer, from dispatch until its rows are back.",
                &EXCHANGE_SECONDS_BUCKETS,
            )?,
            exchange_rows_sent: make
                .counter("exchange_rows_sent_total", "Token rows sent to peers' experts.")?,
            experts_assigned: make
                .gauge("experts_assigned", "Experts that the last assignment gives this agent.")?,
            model_load_seconds: make
                .float("model_load_seconds", "How long the last load took, fetching included.")?,
            fetched_bytes: make.counters(
                "fetched_bytes_total",
                "Bytes of the model fetched, by where they came from: source or peer.",
                "from",
            )?,
            fetch_retries: make
                .counter("fetch_retries_total", "Requests to the model's source sent again.")?,
            copied: Copied::new(&make)?,
            registry,
        })
    }

    /// The text that a scrape gets. `unready` says why the agent takes no requests.
    ///
    /// # Errors
    /// Never in practice: the metrics are made here.
    pub fn render(
        &self,
        status: &AgentStatus,
        unready: Option<&str>,
        stalled: Duration,
    ) -> prometheus::Result<Vec<u8>> {
        self.copied.copy(status);
        self.copied.ready.set(i64::from(unready.is_none()));
        self.copied.engine_stalled_seconds.set(stalled.as_secs_f64());
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl Copied {
    fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            requests_running: make.gauge("requests_running", "Sequences in the batch.")?,
            requests_waiting: make.gauge("requests_waiting", "Sequences that wait for a place.")?,
            kv_cache_usage_ratio: make
                .float("kv_cache_usage_ratio", "Used part of the KV cache, 0 to 1.")?,
            kv_blocks: make.gauge("kv_blocks", "Blocks of the KV cache.")?,
            kv_blocks_used: make.gauge("kv_blocks_used", "Blocks of the KV cache in use.")?,
            prompt_tokens: make.counter("prompt_tokens_total", "Prompt tokens taken.")?,
            prompt_tokens_cached: make
                .counter("prompt_tokens_cached_total", "Prompt tokens found cached.")?,
            generation_tokens: make.counter("generation_tokens_total", "Tokens generated.")?,
            preemptions: make.counter("preemptions_total", "Sequences that lost their cache.")?,
            drafted_tokens: make
                .counter("drafted_tokens_total", "Tokens guessed ahead that a step looked at.")?,
            accepted_tokens: make
                .counter("accepted_tokens_total", "Tokens guessed ahead that were right.")?,
            expert_rows: make.counters(
                "expert_rows_total",
                "(row, expert) pairs computed, by place: local or remote.",
                "place",
            )?,
            failovers: make
                .counter("exchange_failovers_total", "Expert calls asked again of another copy.")?,
            experts_loaded: make.gauge("experts_loaded", "Experts in memory.")?,
            load_bytes: make.gauges(
                "load_bytes",
                "Bytes of weights loaded into memory: done, and in all.",
                "state",
            )?,
            fetch_bytes: make.gauges(
                "fetch_bytes",
                "Bytes of the model that this agent needs on disk: done, and in all.",
                "state",
            )?,
            plan_generation: make
                .gauge("plan_generation", "Generation of the assignment in effect.")?,
            peers_in_trouble: make.gauge("peers_in_trouble", "Peers that failed or are late.")?,
            memory_bytes: make.gauge("memory_bytes", "Memory that this agent may use.")?,
            phase: make.gauges("phase", "1 for the phase that the agent is in.", "phase")?,
            ready: make.gauge("ready", "1 when the self-test passed and it does not drain.")?,
            engine_stalled_seconds: make.float(
                "engine_stalled_seconds",
                "How long the engine's thread has not come round.",
            )?,
        })
    }

    fn copy(&self, status: &AgentStatus) {
        let load = status.current.unwrap_or_default();
        self.requests_running.set(load.sequences_running.into());
        self.requests_waiting.set(load.sequences_waiting.into());
        self.kv_blocks.set(load.kv_blocks_total.into());
        self.kv_blocks_used.set(load.kv_blocks_used.into());
        let blocks = f64::from(load.kv_blocks_total.max(1));
        self.kv_cache_usage_ratio.set(f64::from(load.kv_blocks_used) / blocks);
        raise(&self.prompt_tokens, load.prompt_tokens_total);
        raise(&self.prompt_tokens_cached, load.cached_tokens_total);
        raise(&self.generation_tokens, load.generated_tokens_total);
        raise(&self.preemptions, load.preemptions_total);
        raise(&self.drafted_tokens, load.drafted_tokens_total);
        raise(&self.accepted_tokens, load.accepted_tokens_total);
        raise(&self.failovers, load.expert_failovers_total);
        raise(&self.expert_rows.with_label_values(&["local"]), load.expert_rows_local_total);
        raise(&self.expert_rows.with_label_values(&["remote"]), load.expert_rows_remote_total);
        let experts: usize = status.resident.iter().map(|layer| layer.experts.len()).sum();
        self.experts_loaded.set(wide(experts as u64));
        for (gauges, progress) in
            [(&self.load_bytes, status.load), (&self.fetch_bytes, status.fetch)]
        {
            let progress = progress.unwrap_or_default();
            gauges.with_label_values(&["done"]).set(wide(progress.bytes_loaded));
            gauges.with_label_values(&["total"]).set(wide(progress.bytes_total));
        }
        self.plan_generation.set(wide(status.generation));
        self.peers_in_trouble.set(wide(status.troubles.len() as u64));
        self.memory_bytes.set(wide(status.memory_bytes));
        for phase in PHASES {
            let label = phase.as_str_name().trim_start_matches("AGENT_PHASE_").to_lowercase();
            let is_it = i64::from(phase == status.phase());
            self.phase.with_label_values(&[label]).set(is_it);
        }
    }
}

const PHASES: [AgentPhase; 5] = [
    AgentPhase::Unassigned,
    AgentPhase::Loading,
    AgentPhase::Ready,
    AgentPhase::Draining,
    AgentPhase::Failed,
];

/// A counter as far as another one has come.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn wide(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
