//! A tower layer that every request to the API server passes.

use super::Writes;
use super::request::Asked;
use crate::metrics::Metrics;
use axum::http::{Request, Response};
use kube::client::Body;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;
use tower::{BoxError, Layer, Service};

/// Requests on their way at once: a thousand deployments that change together must not flood the API server, and
/// one that answers slowly must not hold up everything.
const REQUESTS_MAX: usize = 32;
/// One request without a watch. The API server itself answers within a second or is in trouble.
const REQUEST: Duration = Duration::from_secs(5);

/// A request that did not reach the API server, or whose answer did not come.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("this replica does not lead any more, so it writes nothing")]
    NotLeader,
    #[error("no answer from the API server in time")]
    Timeout,
    #[error("the client is shutting down")]
    Closed,
}

/// Makes a [`Gate`].
#[derive(Clone, Debug)]
pub struct GateLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writes: Writes,
    metrics: Metrics,
    permits: Semaphore,
}

impl GateLayer {
    pub fn new(writes: Writes, metrics: Metrics) -> Self {
        let permits = Semaphore::new(REQUESTS_MAX);
        Self { shared: Arc::new(Shared { writes, metrics, permits }) }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, shared: Arc::clone(&self.shared) }
    }
}

/// Counts, bounds and fences.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = Asked::new(request.method(), request.uri());
        // Nothing is sent before the first poll.
        let answer = self.inner.call(request);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let result = shared.pass(&asked, answer).await;
            let code = match &result {
                Ok(response) => response.status().as_u16().to_string(),
                Err(_) => "none".to_owned(),
            };
            shared.metrics.request(asked.verb, &asked.kind, &code);
            result
        })
    }
}

impl Shared {
    async fn pass<T>(
        &self,
        asked: &Asked,
        answer: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        if asked.is_watch() {
            // kube's own timeouts hold for watches.
            return answer.await;
        }
        let _permit = self.permits.acquire().await.map_err(|_| GateError::Closed)?;
        let patience = match &self.writes {
            Writes::Fenced(fence) if asked.is_write() => {
                fence.remaining().ok_or(GateError::NotLeader)?.min(REQUEST)
            }
            Writes::Fenced(_) | Writes::Free => REQUEST,
        };
        tokio::time::timeout(patience, answer).await.map_err(|_| GateError::Timeout)?
    }
}
