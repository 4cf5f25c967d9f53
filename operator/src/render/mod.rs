//! A checked request → the Kubernetes objects that serve it. Pure: equal input gives equal output.
//!
//! Knows no API server, no clock and no live object. What is computed from the cluster's state (replicas, which group
//! lives, the plan's bytes) comes in as arguments. Objects are complete, for server-side apply with one field manager.

mod agents;
mod alerts;
mod guards;
mod hashes;
mod model_files;
mod monitoring;
mod names;
mod overlay;
mod plan_store;
mod pods;
mod router;

pub use agents::{agents_service, agents_stateful_set};
pub use guards::{network_policies, pod_disruption_budgets, service_accounts};
pub use hashes::{Group, Revision};
pub use monitoring::{MONITORING_GROUP, MonitoringLabels, prometheus_rule, service_monitor};
pub use names::{
    AGENT_CONTAINER, AGENT_HTTP_PORT, AGENT_PORT, COMPONENT_LABEL, Component, FIELD_MANAGER,
    GROUP_LABEL, INSTANCE_LABEL, MANAGED_BY_LABEL, MODEL_DEPLOYMENT_LABEL, NAME_LABEL,
    NAME_LENGTH_MAX, Names, REVISION_ANNOTATION, ROUTER_CONTAINER, ROUTER_CONTROL_PORT,
    ROUTER_PORT,
};
pub use overlay::PodWishes;
pub use plan_store::{PLAN_KEY, plan_config_map};
pub use router::{router_control_service, router_deployment, router_service};

use crds::DeploymentRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// One ModelDeployment and where it lives: what every function here reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub namespace: String,
    /// The ModelDeployment itself; every object goes with it.
    pub owner: OwnerReference,
    pub request: DeploymentRequest,
    /// The serving image of agents and routers, `spec.image` or the one pinned in the status.
    pub image: String,
    /// Where the operator runs: the only pods of that namespace that may reach agents and routers.
    pub operator_namespace: String,
    pub pods: PodWishes,
    /// Secret of the same namespace whose keys become the agents' environment.
    pub secret_name: Option<String>,
    /// Base URL of the hub or object store in place of the public one.
    pub endpoint: Option<String>,
}

impl Target {
    /// Names of this deployment's objects.
    pub fn names(&self) -> Names<'_> {
        Names::new(self.request.name.as_str())
    }

    /// Name, labels and owner of an object that belongs to one component.
    fn metadata(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.names().labels(component)),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }
}
