//! Names, labels and ports: the words that operator, chart and dashboards share.

use super::hashes::Group;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// Owner of every field that the operator writes with server-side apply.
pub const FIELD_MANAGER: &str = "boyle-operator";
/// Longest name of a ModelDeployment. A StatefulSet's name and a hyphen and a hash of ten characters become a label
/// of its pods, and labels end at 63; `-agents-` and the group take another 16.
pub const NAME_LENGTH_MAX: usize = 36;

pub const NAME_LABEL: &str = "app.kubernetes.io/name";
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
pub const MODEL_DEPLOYMENT_LABEL: &str = "boyle.dev/model-deployment";
/// On agents: which model of the deployment they hold.
pub const GROUP_LABEL: &str = "boyle.dev/group";
/// On agents' pods: the wishes that they were started with.
pub const REVISION_ANNOTATION: &str = "boyle.dev/revision";

/// Containers, for overlays and for `kubectl logs -c`.
pub const AGENT_CONTAINER: &str = "agent";
pub const ROUTER_CONTAINER: &str = "router";

/// gRPC of agents, mutual TLS.
pub const AGENT_PORT: u16 = 7070;
/// Health and metrics of agents, plain.
pub const AGENT_HTTP_PORT: u16 = 7071;
/// The API, health and metrics of routers, plain.
pub const ROUTER_PORT: u16 = 8080;
/// gRPC control of routers, mutual TLS.
pub const ROUTER_CONTROL_PORT: u16 = 7072;

/// Which part of Boyle a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Agent,
    Router,
    Operator,
}

impl Component {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Router => "router",
            Self::Operator => "operator",
        }
    }
}

/// Names of one deployment's objects.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    deployment: &'a str,
}

impl<'a> Names<'a> {
    pub fn new(deployment: &'a str) -> Self {
        Self { deployment }
    }

    /// The StatefulSet of one group.
    pub fn stateful_set(self, group: &Group) -> String {
        format!("{}-agents-{group}", self.deployment)
    }

    /// The agents' headless Service, PodDisruptionBudget and NetworkPolicy.
    pub fn agents(self) -> String {
        format!("{}-agents", self.deployment)
    }

    /// The routers' Deployment, headless Service, ServiceAccount, PodDisruptionBudget and NetworkPolicy.
    pub fn router(self) -> String {
        format!("{}-router", self.deployment)
    }

    /// The Service that clients use, and the monitoring objects.
    pub fn service(self) -> String {
        self.deployment.to_owned()
    }

    /// The agents' ServiceAccount.
    pub fn agent_account(self) -> String {
        format!("{}-agent", self.deployment)
    }

    /// The ConfigMap with a group's last plan.
    pub fn plan(self, group: &Group) -> String {
        format!("{}-plan-{group}", self.deployment)
    }

    pub fn agent_tls(self) -> String {
        format!("{}-agent-tls", self.deployment)
    }

    pub fn router_tls(self) -> String {
        format!("{}-router-tls", self.deployment)
    }

    /// URL inside the cluster, as `status.url` has it.
    pub fn url(self, namespace: &str) -> String {
        format!("http://{}.{namespace}.svc", self.deployment)
    }

    /// Where an agent is reached; `pod` is its id too.
    pub fn agent_address(self, pod: &str, namespace: &str) -> String {
        format!("{pod}.{}.{namespace}.svc:{AGENT_PORT}", self.agents())
    }

    /// All labels of an object of one component.
    pub fn labels(self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.selector(component);
        labels.insert(MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned());
        labels.insert(MODEL_DEPLOYMENT_LABEL.to_owned(), self.deployment.to_owned());
        labels
    }

    /// The labels that select a component's pods. Selectors cannot be changed later, so they stay as they are.
    pub fn selector(self, component: Component) -> BTreeMap<String, String> {
        BTreeMap::from([
            (NAME_LABEL.to_owned(), "boyle".to_owned()),
            (INSTANCE_LABEL.to_owned(), self.deployment.to_owned()),
            (COMPONENT_LABEL.to_owned(), component.as_str().to_owned()),
        ])
    }

    /// `status.selector` of the scale subresource: all agents of the deployment, in text.
    pub fn agents_selector_text(self) -> String {
        let pairs = self.selector(Component::Agent);
        let pairs: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }
}

/// Selects pods that have all of these labels.
pub(super) fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}
