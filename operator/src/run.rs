//! The whole operator: election, watches, tasks, health.

use crate::api::{Transport, Writes, client};
use crate::context::Context;
use crate::controller;
use crate::deployment_metrics::DeploymentMetrics;
use crate::fence::Fence;
use crate::health::{self, Heartbeat};
use crate::identity::{self, Authority};
use crate::leader::Elector;
use crate::metrics::{Metrics, MetricsError};
use crate::settings::Settings;
use crate::watch::{Caches, Wakes, Watcher};
use axum::http;
use kube::client::{Body, DynBody};
use kube::{Client, Config};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

/// Between looks whether the caches are full.
const SYNC_POLL: Duration = Duration::from_millis(50);

/// The operator could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("make a client for the API server")]
    Client(#[source] Box<kube::Error>),
    #[error(transparent)]
    Health(#[from] health::HealthError),
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
}

/// One replica of the operator.
pub struct Operator {
    settings: Settings,
    fence: Fence,
    metrics: Metrics,
    /// Writes only while this replica leads.
    fenced: Client,
    /// Election and watches.
    free: Client,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Operator").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Operator {
    /// Connects to nothing yet. `seam` wraps the transport of fenced requests.
    ///
    /// # Errors
    /// [`RunError`] when metrics or clients cannot be made.
    pub fn new<L>(settings: Settings, config: Config, seam: &L) -> Result<Self, RunError>
    where
        L: Layer<Transport>,
        L::Service: Service<http::Request<Body>, Response = http::Response<Box<DynBody>>, Error = BoxError>
            + Send
            + 'static,
        <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
    {
        let metrics = Metrics::new()?;
        let fence = Fence::default();
        let failed = |error| RunError::Client(Box::new(error));
        let plain = tower::layer::util::Identity::new();
        let writes = Writes::Fenced(fence.clone());
        let fenced = client(config.clone(), seam, writes, &metrics).map_err(failed)?;
        let free = client(config, &plain, Writes::Free, &metrics).map_err(failed)?;
        Ok(Self { settings, fence, metrics, fenced, free })
    }

    /// What this replica counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Runs until `shutdown` resolves, then gives the lease back.
    ///
    /// # Errors
    /// [`RunError`] when the health port cannot be had.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { settings, fence, metrics, fenced, free } = self;
        let caches = Arc::new(Caches::default());
        let wakes = Wakes::default();
        let roll = watch::Sender::new(0);
        let heartbeat = Heartbeat::default();
        let watcher = Watcher {
            client: free.clone(),
            scope: settings.scope.clone(),
            caches: Arc::clone(&caches),
            wakes: wakes.clone(),
            roll: roll.clone(),
        };
        let _watches = watcher.start();
        let listener = health::listen(settings.http_listen).await?;
        let is_ready = {
            let caches = Arc::clone(&caches);
            Arc::new(move || caches.are_synced())
        };
        let elector = Elector::new(free, &settings.namespace, &settings.pod_name, fence);
        let shown = DeploymentMetrics::default();
        let series = (metrics.clone(), shown.clone());
        let shared = Shared { settings, caches, wakes, metrics, shown, client: fenced };
        tokio::select! {
            () = health::serve(listener, series, heartbeat.clone(), is_ready) => {}
            () = lead(&elector, &shared, (&roll, &heartbeat)) => {}
            () = shutdown => {}
        }
        elector.release().await;
        Ok(())
    }
}

/// What outlives a term of leadership.
struct Shared {
    settings: Settings,
    caches: Arc<Caches>,
    wakes: Wakes,
    metrics: Metrics,
    shown: DeploymentMetrics,
    client: Client,
}

/// One term after another; never ends by itself.
async fn lead(
    elector: &Elector,
    shared: &Shared,
    (roll, heartbeat): (&watch::Sender<u64>, &Heartbeat),
) {
    loop {
        let waiting = async {
            synced(&shared.caches).await;
            elector.acquire().await
        };
        let lease = tokio::select! {
            lease = waiting => lease,
            () = beats(heartbeat) => return,
        };
        tracing::info!("this replica leads");
        shared.metrics.set_leader(1);
        tokio::select! {
            () = elector.keep(lease) => {}
            () = act(shared, roll, heartbeat) => {}
        }
        shared.metrics.set_leader(0);
        shared.shown.clear();
        tracing::warn!("this replica does not lead any more");
    }
}

/// Everything that only the leader does. Its tasks end when it is dropped.
async fn act(shared: &Shared, roll: &watch::Sender<u64>, heartbeat: &Heartbeat) {
    let authority = tokio::select! {
        authority = Authority::open(&shared.client, &shared.settings) => authority,
        () = beats(heartbeat) => return,
    };
    let context = Arc::new(Context {
        client: shared.client.clone(),
        settings: shared.settings.clone(),
        caches: Arc::clone(&shared.caches),
        wakes: shared.wakes.clone(),
        metrics: shared.metrics.clone(),
        shown: shared.shown.clone(),
        authority,
    });
    tokio::select! {
        () = controller::run(&context, roll.subscribe(), heartbeat) => {}
        () = context.authority.keep() => {}
    }
}

/// A replica that waits is alive too; never ends.
async fn beats(heartbeat: &Heartbeat) {
    loop {
        heartbeat.beat();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn synced(caches: &Caches) {
    while !caches.are_synced() {
        tokio::time::sleep(SYNC_POLL).await;
    }
}
