//! /livez, /readyz and /metrics of the operator.

use crate::deployment_metrics::DeploymentMetrics;
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// The main loop beats every second; a process that did not for this long hangs and is to be restarted.
const HEARTBEAT_MAX: Duration = Duration::from_secs(30);

/// The port could not be had, or serving it ended.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("listen on {address}; set BOYLE_HTTP_LISTEN to a free address")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// Answers readiness: caches are full.
pub type IsReady = Arc<dyn Fn() -> bool + Send + Sync>;

/// Shows that the main loop still turns.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    start: Instant,
    beat_ms: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { start: Instant::now(), beat_ms: Arc::default() }
    }
}

impl Heartbeat {
    /// The loop turned.
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat_ms.store(now, Ordering::Relaxed);
    }

    fn is_fresh(&self) -> bool {
        let beat = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(beat) < HEARTBEAT_MAX
    }
}

#[derive(Clone)]
struct Views {
    metrics: Metrics,
    shown: DeploymentMetrics,
    heartbeat: Heartbeat,
    is_ready: IsReady,
}

/// Takes the port.
///
/// # Errors
/// [`HealthError::Bind`].
pub async fn listen(address: SocketAddr) -> Result<TcpListener, HealthError> {
    TcpListener::bind(address).await.map_err(|source| HealthError::Bind { address, source })
}

/// Serves until dropped.
pub async fn serve(
    listener: TcpListener,
    (metrics, shown): (Metrics, DeploymentMetrics),
    heartbeat: Heartbeat,
    is_ready: IsReady,
) {
    let app = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Views { metrics, shown, heartbeat, is_ready });
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "health server");
    }
}

async fn livez(State(views): State<Views>) -> (StatusCode, &'static str) {
    if views.heartbeat.is_fresh() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the main loop hangs\n")
    }
}

async fn readyz(State(views): State<Views>) -> (StatusCode, &'static str) {
    if (views.is_ready)() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the caches are not full yet\n")
    }
}

async fn render(State(views): State<Views>) -> String {
    let mut text = views.metrics.render();
    match views.shown.render() {
        Ok(shown) => text.push_str(&shown),
        Err(error) => tracing::error!(%error, "deployments' metrics"),
    }
    text
}
