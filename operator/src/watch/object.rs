//! An object that the operator applied → what tells whether it is still so. Pure.

use super::cache::{Entry, Owner};
use crate::key::{DEPLOYMENT_LABEL, DeploymentKey, HASH_ANNOTATION, SERVING_GROUP_ANNOTATION};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::Resource;
use kube::api::{ObjectMeta, PartialObjectMeta};

/// On TLS Secrets: when they are to be renewed, in seconds since 1970.
pub const RENEW_ANNOTATION: &str = "boyle.dev/renew-after";

/// An object as a watch showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    pub uid: String,
    /// Hash of what was applied last.
    pub hash: Option<String>,
    /// Rises whenever the part changes that the operator applies: `metadata.generation` where the kind has one,
    /// else the resource version.
    pub version: u64,
    pub replicas: Option<u32>,
    /// Why pods cannot be made: a quota or an admission refused them.
    pub failure: Option<String>,
    pub renew_after: Option<u64>,
    /// On the clients' Service: the group that routers send new requests to.
    pub serving_group: Option<String>,
}

impl ObjectFacts {
    /// What every kind has.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).cloned();
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            hash: annotation(HASH_ANNOTATION),
            version: version(metadata),
            replicas: None,
            failure: None,
            renew_after: annotation(RENEW_ANNOTATION).and_then(|text| text.parse().ok()),
            serving_group: annotation(SERVING_GROUP_ANNOTATION),
        }
    }
}

/// See [`ObjectFacts::version`].
pub fn version(metadata: &ObjectMeta) -> u64 {
    let generation = metadata.generation.and_then(|generation| u64::try_from(generation).ok());
    let resource = || metadata.resource_version.as_deref()?.parse().ok();
    generation.or_else(resource).unwrap_or(0)
}

/// Parses the metadata of any kind.
pub fn parse_metadata<K>(object: &PartialObjectMeta<K>) -> Option<Entry<ObjectFacts>> {
    entry(&object.metadata, ObjectFacts::of(&object.metadata))
}

/// Parses an agents' StatefulSet.
pub fn parse_stateful_set(set: &StatefulSet) -> Option<Entry<ObjectFacts>> {
    let replicas =
        set.spec.as_ref().and_then(|spec| spec.replicas).and_then(|it| u32::try_from(it).ok());
    entry(set.meta(), ObjectFacts { replicas, ..ObjectFacts::of(set.meta()) })
}

/// Parses a router's Deployment.
pub fn parse_deployment(deployment: &Deployment) -> Option<Entry<ObjectFacts>> {
    let spec = deployment.spec.as_ref();
    let replicas = spec.and_then(|spec| spec.replicas).and_then(|it| u32::try_from(it).ok());
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    let failure = conditions
        .into_iter()
        .flatten()
        .find(|it| it.type_ == "ReplicaFailure" && it.status == "True")
        .map(|it| it.message.clone().unwrap_or_default());
    let meta = deployment.meta();
    entry(meta, ObjectFacts { replicas, failure, ..ObjectFacts::of(meta) })
}

fn entry(metadata: &ObjectMeta, facts: ObjectFacts) -> Option<Entry<ObjectFacts>> {
    let name = metadata.labels.as_ref()?.get(DEPLOYMENT_LABEL)?;
    let key = DeploymentKey::new(metadata.namespace.as_deref()?, name);
    Some(Entry { owner: Owner::Deployment(key), name: metadata.name.clone()?, facts })
}
