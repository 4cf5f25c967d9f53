//! Desired objects → the API server, by server-side apply, and only what differs from what is there.

mod desired;
mod verdict;

pub use desired::{Desired, DesiredError};

use crate::error::describe;
use crate::key::{DeploymentKey, MANAGER};
use crate::watch::cache::Owner;
use crate::watch::object::version;
use crate::watch::{Caches, Kind};
use kube::api::{
    Api, DeleteParams, DynamicObject, ObjectMeta, PartialObjectMeta, Patch, PatchParams,
    Preconditions,
};
use kube::{Client, core::Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use verdict::{Confirmed, Verdict, verdict};

/// What became of an object that should be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Desired(#[from] DesiredError),
    #[error(
        "{kind:?} {name} exists already and is not this deployment's; rename the deployment or delete that object"
    )]
    Foreign { kind: Kind, name: String },
    #[error("the API server refuses {kind:?} {name}: {message}")]
    Refused { kind: Kind, name: String, code: u16, message: String },
    #[error("{kind:?} {name} could not be written: {cause}")]
    Unreachable { kind: Kind, name: String, cause: String },
}

impl ApplyError {
    /// Label of the metric.
    pub fn variant(&self) -> &'static str {
        match self {
            Self::Desired(_) => "Desired",
            Self::Foreign { .. } => "Foreign",
            Self::Refused { .. } => "Refused",
            Self::Unreachable { .. } => "Unreachable",
        }
    }

    /// Wraps what kube says of a request.
    pub fn of(kind: Kind, name: &str, error: &kube::Error) -> Self {
        let name = name.to_owned();
        match error {
            kube::Error::Api(status) => {
                let Status { code, message, .. } = status.as_ref();
                Self::Refused { kind, name, code: *code, message: message.clone() }
            }
            other => Self::Unreachable { kind, name, cause: describe(other) },
        }
    }

    /// The API server's code, when it gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Desired(_) | Self::Foreign { .. } | Self::Unreachable { .. } => None,
        }
    }
}

/// Applies one deployment's objects and remembers what it applied.
pub struct Applier {
    client: Client,
    caches: Arc<Caches>,
    key: DeploymentKey,
    owner_uid: String,
    confirmed: BTreeMap<(Kind, String), Confirmed>,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Applier").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Applier {
    pub fn new(client: Client, caches: Arc<Caches>, key: DeploymentKey, owner_uid: String) -> Self {
        Self { client, caches, key, owner_uid, confirmed: BTreeMap::new() }
    }

    /// Brings objects to what they should be; independent ones at the same time.
    ///
    /// # Errors
    /// Everything that failed; the others were applied.
    pub async fn apply_all(&mut self, objects: Vec<Desired>) -> Result<(), Vec<ApplyError>> {
        let pending: Vec<Desired> = objects.into_iter().filter(|it| self.is_due(it)).collect();
        let calls = pending.iter().map(|desired| self.write(desired));
        let results = futures::future::join_all(calls).await;
        let mut errors = Vec::new();
        for (desired, result) in pending.into_iter().zip(results) {
            match result {
                Ok(written) => {
                    let confirmed = Confirmed::written(desired.hash, version(&written));
                    self.confirmed.insert((desired.kind, desired.name), confirmed);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Deletes an object of this deployment if it is there.
    ///
    /// # Errors
    /// The API server's.
    pub async fn delete(&mut self, kind: Kind, name: &str) -> Result<(), ApplyError> {
        self.confirmed.remove(&(kind, name.to_owned()));
        let Some(observed) = self.caches.objects(kind).get(&self.owner(), name) else {
            return Ok(());
        };
        let preconditions =
            Preconditions { uid: Some(observed.uid.clone()), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..background() };
        match self.api(kind).delete(name, &parameters).await {
            Ok(_) => Ok(()),
            // Gone, or another one of its name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ApplyError::of(kind, name, &error)),
        }
    }

    /// Whether an object differs from what should be, as far as is known.
    fn is_due(&mut self, desired: &Desired) -> bool {
        let observed = self.caches.objects(desired.kind).get(&self.owner(), &desired.name);
        let place = (desired.kind, desired.name.clone());
        let confirmed = self.confirmed.get(&place);
        match verdict(&desired.hash, observed.as_deref(), confirmed, Instant::now()) {
            Verdict::Equal(seen) => {
                self.confirmed.insert(place, seen);
                false
            }
            Verdict::Await => false,
            Verdict::Apply => true,
        }
    }

    async fn write(&self, desired: &Desired) -> Result<ObjectMeta, ApplyError> {
        let Desired { kind, name, body, hash: _ } = desired;
        let api = self.api(*kind);
        let failed = |error: kube::Error| ApplyError::of(*kind, name, &error);
        if self.caches.objects(*kind).get(&self.owner(), name).is_none() {
            // Not known to be ours: a forced apply would take an object from its owner.
            let there = api.get_metadata_opt(name).await.map_err(failed)?;
            if there.is_some_and(|it| !self.is_ours(&it.metadata)) {
                return Err(ApplyError::Foreign { kind: *kind, name: name.clone() });
            }
        }
        let parameters = PatchParams::apply(MANAGER).force();
        let written: PartialObjectMeta<DynamicObject> =
            api.patch_metadata(name, &parameters, &Patch::Apply(body)).await.map_err(failed)?;
        tracing::debug!(deployment = %self.key, ?kind, name, "applied");
        Ok(written.metadata)
    }

    fn is_ours(&self, metadata: &ObjectMeta) -> bool {
        let owners = metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| owner.uid == self.owner_uid)
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.key.namespace(), &kind.resource())
    }

    fn owner(&self) -> Owner {
        Owner::Deployment(self.key.clone())
    }
}

fn background() -> DeleteParams {
    DeleteParams::background()
}
