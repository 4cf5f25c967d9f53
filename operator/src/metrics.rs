//! Counters and gauges of this process, in Prometheus' text form. Knows no cluster.

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::time::Duration;

/// Bounds of a round's duration in seconds: a round without writes takes milliseconds, one with hung agents some
/// seconds.
const ROUND_SECONDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 15.0];

/// Metrics that could not be made; only a programming error makes it so.
#[derive(Debug, thiserror::Error)]
#[error("make the metrics")]
pub struct MetricsError(#[from] prometheus::Error);

/// Everything this process counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    rounds: IntCounterVec,
    round_seconds: HistogramVec,
    errors: IntCounterVec,
    requests: IntCounterVec,
    leader: IntGauge,
    deployments: IntGaugeVec,
}

impl Metrics {
    /// # Errors
    /// [`MetricsError`] when two metrics have one name.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            rounds: counter(
                "boyle_operator_reconciles_total",
                "Rounds over one ModelDeployment, by outcome.",
                &["outcome"],
            )?,
            round_seconds: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "boyle_operator_reconcile_seconds",
                        "Duration of a round over one ModelDeployment.",
                    )
                    .buckets(ROUND_SECONDS.to_vec()),
                    &[],
                )?,
            )?,
            errors: counter(
                "boyle_operator_errors_total",
                "What failed in a round, by kind of error.",
                &["variant"],
            )?,
            requests: counter(
                "boyle_operator_api_requests_total",
                "Requests to the API server.",
                &["verb", "kind", "code"],
            )?,
            leader: register(
                &registry,
                IntGauge::new("boyle_operator_leader", "1 while this replica acts.")?,
            )?,
            deployments: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("boyle_operator_deployments", "ModelDeployments by phase."),
                    &["phase"],
                )?,
            )?,
            registry,
        })
    }

    /// One round over a deployment is over.
    pub fn round(&self, outcome: &str, duration: Duration) {
        self.rounds.with_label_values(&[outcome]).inc();
        let no_labels: [&str; 0] = [];
        self.round_seconds.with_label_values(&no_labels).observe(duration.as_secs_f64());
    }

    /// Something failed.
    pub fn error(&self, variant: &str) {
        self.errors.with_label_values(&[variant]).inc();
    }

    /// The API server answered, or did not.
    pub fn request(&self, verb: &str, kind: &str, code: &str) {
        self.requests.with_label_values(&[verb, kind, code]).inc();
    }

    /// Requests so far for which the labels hold.
    pub fn requests_where(&self, holds: impl Fn(&str, &str, &str) -> bool) -> u64 {
        let mut sum = 0;
        for family in self.requests.collect() {
            for metric in family.get_metric() {
                let label = |name: &str| {
                    let mut labels = metric.get_label().iter();
                    labels.find(|label| label.name() == name).map_or("", |label| label.value())
                };
                if holds(label("verb"), label("kind"), label("code")) {
                    sum += metric.get_counter().get_value() as u64;
                }
            }
        }
        sum
    }

    /// Whether this replica acts.
    pub fn set_leader(&self, leader: i64) {
        self.leader.set(leader);
    }

    /// A deployment moved from one phase to another; `None` where it did not exist.
    pub fn phase(&self, before: Option<&str>, after: Option<&str>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.deployments.with_label_values(&[before]).dec();
        }
        if let Some(after) = after {
            self.deployments.with_label_values(&[after]).inc();
        }
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# {error}\n"),
        }
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
