//! What the router counts, in Prometheus' text format. Names follow those that vLLM's dashboards read.

use crate::window::{Recent, Window};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// OpenTelemetry's buckets for `gen_ai.server.time_to_first_token`, and two for replays and cold starts.
const FIRST_TOKEN_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    30.0, 120.0,
];
/// OpenTelemetry's buckets for `gen_ai.server.time_per_output_token`.
const INTER_TOKEN_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];
/// OpenTelemetry's buckets for `gen_ai.server.request.duration`, and three for long reasoning.
const REQUEST_SECONDS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 300.0,
    900.0, 3600.0,
];
/// The code of a request whose client went away, as web servers log it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// All counters of one router.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Where the window's time begins.
    origin: Instant,
    window: Mutex<Window>,
    pub requests: IntCounterVec,
    pub requests_received: IntCounter,
    pub requests_in_flight: IntGauge,
    pub requests_held: IntGauge,
    pub first_token_seconds: Histogram,
    pub inter_token_seconds: Histogram,
    pub request_seconds: Histogram,
    pub prompt_tokens: IntCounter,
    pub cached_tokens: IntCounter,
    pub generation_tokens: IntCounter,
    pub reasoning_tokens: IntCounter,
    pub finished: IntCounterVec,
    pub resumes: IntCounter,
    pub homes: IntGauge,
    pub homes_ready: IntGauge,
}

impl Metrics {
    /// # Errors
    /// A metric's name is taken or malformed.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        Ok(Self {
            requests: counters(r, "requests_total", "Requests answered", &["endpoint", "code"])?,
            requests_received: counter(r, "requests_received_total", "Requests that arrived")?,
            requests_held: gauge(r, "requests_held", "Sequences that wait for a home")?,
            requests_in_flight: gauge(r, "requests_in_flight", "Requests being answered")?,
            first_token_seconds: histogram(
                r,
                "time_to_first_token_seconds",
                "From a request's arrival to its first token",
                FIRST_TOKEN_SECONDS,
            )?,
            inter_token_seconds: histogram(
                r,
                "inter_token_latency_seconds",
                "Between two tokens of one choice",
                INTER_TOKEN_SECONDS,
            )?,
            request_seconds: histogram(
                r,
                "e2e_request_latency_seconds",
                "From a request's arrival to its end",
                REQUEST_SECONDS,
            )?,
            prompt_tokens: counter(r, "prompt_tokens_total", "Prompt tokens")?,
            cached_tokens: counter(r, "prompt_tokens_cached_total", "Prompt tokens found cached")?,
            generation_tokens: counter(r, "generation_tokens_total", "Generated tokens")?,
            reasoning_tokens: counter(
                r,
                "reasoning_tokens_total",
                "Generated tokens of reasoning",
            )?,
            finished: counters(r, "choices_finished_total", "Choices ended", &["finished_reason"])?,
            resumes: counter(r, "resumes_total", "Streams continued on another home")?,
            homes: gauge(r, "homes", "Homes in the set")?,
            homes_ready: gauge(r, "homes_ready", "Homes that can take a request")?,
            registry,
            origin: Instant::now(),
            window: Mutex::default(),
        })
    }

    /// What the autoscaler wants to know.
    pub fn recent(&self) -> Recent {
        self.window().recent(self.origin.elapsed())
    }

    /// One more sequence waits for a home, unless `max` do already.
    pub fn hold(self: &Arc<Self>, max: usize) -> Option<Held> {
        self.requests_held.inc();
        let held = Held { metrics: Arc::clone(self) };
        (usize::try_from(self.requests_held.get()).unwrap_or(0) <= max).then_some(held)
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // A panic while it was held can have lost one measurement at most.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// A metric could not be written.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn name(name: &str) -> String {
    format!("boyle_router_{name}")
}

fn counter(registry: &Registry, n: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name(n), help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    n: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name(n), help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauge(registry: &Registry, n: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name(n), help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histogram(
    registry: &Registry,
    n: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let options = HistogramOpts::new(name(n), help).buckets(buckets.to_vec());
    let histogram = Histogram::with_opts(options)?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

/// A sequence that waits for a home; it counts until it is dropped.
#[derive(Debug)]
pub struct Held {
    metrics: Arc<Metrics>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.requests_held.dec();
    }
}

/// One request's times and outcome; recorded when it is dropped, whatever ended it.
#[derive(Debug)]
pub struct RequestRecord {
    metrics: Arc<Metrics>,
    endpoint: &'static str,
    started: Instant,
    /// How long the choice that waited longest was held before its first token.
    held: Duration,
    first_token: Option<Instant>,
    last_token: Vec<Option<Instant>>,
    code: u16,
}

impl RequestRecord {
    pub fn start(metrics: Arc<Metrics>, endpoint: &'static str) -> Self {
        metrics.requests_received.inc();
        metrics.requests_in_flight.inc();
        metrics.window().request_began(metrics.origin.elapsed());
        Self {
            metrics,
            endpoint,
            started: Instant::now(),
            held: Duration::ZERO,
            first_token: None,
            last_token: Vec::new(),
            code: CLIENT_CLOSED_REQUEST,
        }
    }

    /// A choice was accepted after it had waited for a home for this long.
    pub fn accepted(&mut self, held: Duration) {
        if self.first_token.is_none() {
            self.held = self.held.max(held);
        }
    }

    /// Tokens of one choice arrived. Tokens of one event share the time since the one before.
    pub fn tokens(&mut self, choice: usize, count: usize) {
        if count == 0 {
            return;
        }
        let now = Instant::now();
        if self.first_token.is_none() {
            self.first_token = Some(now);
            let took = now.duration_since(self.started);
            self.metrics.first_token_seconds.observe(took.as_secs_f64());
            // The wait for a home that wakes says nothing about how busy the homes are.
            let took = took.saturating_sub(self.held);
            self.metrics.window().first_token(self.metrics.origin.elapsed(), took);
        }
        if self.last_token.len() <= choice {
            self.last_token.resize(choice + 1, None);
        }
        let Some(last) = self.last_token.get_mut(choice) else { return };
        if let Some(before) = last.replace(now) {
            let each = now.duration_since(before).div_f64(count as f64);
            let elapsed = self.metrics.origin.elapsed();
            self.metrics.window().output_tokens(elapsed, each, count as u64);
            for _ in 0..count {
                self.metrics.inter_token_seconds.observe(each.as_secs_f64());
            }
        }
        self.metrics.generation_tokens.inc_by(count as u64);
    }

    /// The status that the client got, or would have got were its stream not under way.
    pub fn set_code(&mut self, code: u16) {
        self.code = code;
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let code = self.code.to_string();
        self.metrics.requests.with_label_values(&[self.endpoint, &code]).inc();
        self.metrics.requests_in_flight.dec();
        self.metrics.window().request_ended(self.metrics.origin.elapsed());
        self.metrics.request_seconds.observe(self.elapsed().as_secs_f64());
    }
}
