//! Names that everything else is found by. Knows no cluster.

use std::fmt;
use std::sync::Arc;

/// One ModelDeployment of the cluster. Cheap to clone: every cache and task holds some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentKey {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl DeploymentKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for DeploymentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Field manager of every apply, `reportingController` of every Event, value of the managed-by label.
pub const MANAGER: &str = "boyle-operator";
/// On every object that the operator makes: the ModelDeployment's name.
pub const DEPLOYMENT_LABEL: &str = "boyle.dev/model-deployment";
/// On agents' objects: the group of agents of one model.
pub const GROUP_LABEL: &str = "boyle.dev/group";
/// On every object that the operator makes.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// `agent` or `router`.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// On agents' pods: what they were started with.
pub const REVISION_ANNOTATION: &str = "boyle.dev/revision";
/// On every object that the operator applies: what it applied, so that equal wishes cause no write.
pub const HASH_ANNOTATION: &str = "boyle.dev/applied-hash";
/// On the clients' Service: the group of agents that routers send new requests to.
pub const SERVING_GROUP_ANNOTATION: &str = "boyle.dev/serving-group";
/// On a group's StatefulSet: the ModelDeployment's spec that the group serves, for as long as it does.
pub const SPEC_ANNOTATION: &str = "boyle.dev/spec";
