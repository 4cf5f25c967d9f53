//! HTTP for the kubelet and Prometheus: is it alive, is it ready, how is it doing. Takes no requests of users.

use crate::board::Board;
use crate::engine_watch::EngineWatch;
use crate::limits::ENGINE_STALL_MAX;
use crate::metrics::Metrics;
use crate::serving::Serving;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use proto::v1::AgentPhase;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the probes look at. They run on the runtime that everything else runs on, so that a stuck one fails them.
#[derive(Clone, Debug)]
pub struct Probes {
    pub board: Arc<Board>,
    pub engine: Arc<EngineWatch>,
    pub metrics: Arc<Metrics>,
    pub serving: watch::Receiver<Option<Arc<Serving>>>,
}

impl Probes {
    /// Serves until it is dropped.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        axum::serve(listener, self.router()).await
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(live))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    /// Why the agent should be killed, if it should.
    fn fault(&self) -> Option<String> {
        let stalled = self.engine.stalled();
        let seconds = stalled.as_secs();
        (stalled >= ENGINE_STALL_MAX)
            .then(|| format!("the engine's thread has not moved for {seconds} s"))
    }

    /// Why it takes no requests, if it takes none.
    fn unready(&self) -> Option<String> {
        let tested = self.serving.borrow().as_ref().is_some_and(|serving| serving.is_tested());
        match (self.board.phase(), tested) {
            (AgentPhase::Draining, _) => Some("it is draining".to_owned()),
            (_, true) => self.fault(),
            (AgentPhase::Unassigned, false) => Some("it has no assignment".to_owned()),
            (AgentPhase::Failed, false) => Some(self.board.snapshot().error),
            (AgentPhase::Loading | AgentPhase::Ready, false) => {
                Some("its model is still loading".to_owned())
            }
        }
    }
}

async fn live(State(probes): State<Probes>) -> (StatusCode, String) {
    answer(probes.fault())
}

async fn ready(State(probes): State<Probes>) -> (StatusCode, String) {
    answer(probes.unready())
}

async fn metrics(State(probes): State<Probes>) -> Response {
    let status = probes.board.snapshot();
    let unready = probes.unready();
    match probes.metrics.render(&status, unready.as_deref(), probes.engine.stalled()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn answer(trouble: Option<String>) -> (StatusCode, String) {
    match trouble {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
