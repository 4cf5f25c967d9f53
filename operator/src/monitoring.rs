//! ServiceMonitor and PrometheusRule of a deployment, in clusters that have these kinds.
//!
//! They are conveniences: what goes wrong here is logged and tried again, and holds up nothing.

use crate::render::{
    FIELD_MANAGER, MONITORING_GROUP, MonitoringLabels, Target, prometheus_rule, service_monitor,
};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use std::time::Duration;
use tokio::time::Instant;

/// Between looks whether the kinds exist, and between applies of what somebody may have changed.
const EVERY: Duration = Duration::from_secs(300);

/// Why they could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum MonitoringError {
    #[error("ask the API server for {MONITORING_GROUP}")]
    Discover(#[source] Box<kube::Error>),
    #[error("apply {kind} {name}")]
    Apply {
        kind: &'static str,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Keeps one deployment's monitoring objects.
#[derive(Debug, Default)]
pub struct Monitoring {
    labels: MonitoringLabels,
    applied: Option<(Target, Instant)>,
}

impl Monitoring {
    /// `labels` are those by which the cluster's Prometheus chooses what it reads.
    pub fn new(labels: MonitoringLabels) -> Self {
        Self { labels, applied: None }
    }

    /// Applies both objects when the deployment changed, and from time to time.
    ///
    /// # Errors
    /// The API server's; the next time is the remedy.
    pub async fn keep(&mut self, client: &Client, target: &Target) -> Result<(), MonitoringError> {
        let now = Instant::now();
        let fresh = self
            .applied
            .as_ref()
            .is_some_and(|(applied, at)| applied == target && now.duration_since(*at) < EVERY);
        if fresh {
            return Ok(());
        }
        // Failures wait for the next time as well: an API server in trouble has better things to do.
        self.applied = Some((target.clone(), now));
        let groups = client.list_api_groups().await;
        let groups = groups.map_err(|error| MonitoringError::Discover(Box::new(error)))?;
        if !groups.groups.iter().any(|group| group.name == MONITORING_GROUP) {
            return Ok(());
        }
        let objects = [
            ("ServiceMonitor", "servicemonitors", service_monitor(target, &self.labels)),
            ("PrometheusRule", "prometheusrules", prometheus_rule(target, &self.labels)),
        ];
        for (kind, plural, object) in objects {
            apply(client, (kind, plural), &target.namespace, &object).await?;
        }
        Ok(())
    }
}

async fn apply(
    client: &Client,
    (kind, plural): (&'static str, &str),
    namespace: &str,
    object: &DynamicObject,
) -> Result<(), MonitoringError> {
    let gvk = GroupVersionKind::gvk(MONITORING_GROUP, "v1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let name = object.metadata.name.clone().unwrap_or_default();
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch(&name, &parameters, &Patch::Apply(object)).await {
        Ok(_) => Ok(()),
        // One of the two kinds is missing; that is as good as both.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(MonitoringError::Apply { kind, name, source: Box::new(source) }),
    }
}
