//! The way to the API server: a client whose every request is counted, bounded in time and number, and, when it
//! writes, allowed by the fence.

mod gate;
mod request;

pub use gate::{Gate, GateError, GateLayer};

use crate::fence::Fence;
use crate::metrics::Metrics;
use axum::http;
use kube::client::{Body, ClientBuilder, DynBody};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

/// The service that kube makes of a configuration; what a test's layer wraps.
pub type Transport =
    tower::util::BoxService<http::Request<Body>, http::Response<Box<DynBody>>, BoxError>;

/// Who may use a client for what.
#[derive(Clone, Debug)]
pub enum Writes {
    /// Writes must begin while this replica leads.
    Fenced(Fence),
    /// The election itself, and watches.
    Free,
}

/// A client for a cluster. `seam` wraps the transport; tests put their faults there, others `Identity`.
///
/// # Errors
/// When the configuration has no usable certificates or token.
pub fn client<L>(
    mut config: Config,
    seam: &L,
    writes: Writes,
    metrics: &Metrics,
) -> kube::Result<Client>
where
    L: Layer<Transport>,
    L::Service: Service<http::Request<Body>, Response = http::Response<Box<DynBody>>, Error = BoxError>
        + Send
        + 'static,
    <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
{
    // The driver's next round is the retry; retries below it would only hide what happens.
    config.default_retry = false;
    let gate = GateLayer::new(writes, metrics.clone());
    Ok(ClientBuilder::try_from(config)?.with_layer(seam).with_layer(&gate).build())
}
