//! A ModelDeployment as the API server gives it, readable or not.
//!
//! A definition of another version may let through what this program's types do not know. Such an object must not keep
//! the others from being read: it keeps its metadata and status, and says what could not be read.

use crds::{ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus};
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

/// A ModelDeployment, or the rest of one.
#[derive(Clone, Debug)]
pub struct Written {
    pub deployment: ModelDeployment,
    /// Why the spec could not be read; the deployment's is empty then.
    pub unreadable: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let (spec, unreadable) = match serde_json::from_value(spec) {
            Ok(spec) => (spec, None),
            Err(error) => (ModelDeploymentSpec::default(), Some(error.to_string())),
        };
        // A status that cannot be read is written anew.
        let status: Option<ModelDeploymentStatus> = serde_json::from_value(status).ok();
        Ok(Self { deployment: ModelDeployment { metadata, spec, status }, unreadable })
    }
}

impl Resource for Written {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ModelDeployment::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ModelDeployment::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ModelDeployment::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ModelDeployment::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.deployment.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.deployment.metadata
    }
}
