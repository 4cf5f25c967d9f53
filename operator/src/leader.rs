//! Leader election by Lease: at most one replica acts, and a dead one is replaced within seconds.
//!
//! The holder renews about every second and stops acting `FENCE` after the start of its last successful
//! renewal, by its own clock. Another takes the lease when it has not seen it change for [`LEASE`], by *its* own
//! clock. The difference is what a slow clock or a write on its way may cost; the two clocks are never compared.

use crate::error::describe;
use crate::fence::Fence;
use crate::key::MANAGER;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::Instant;

/// Name of the Lease in the operator's namespace.
pub const LEASE_NAME: &str = "boyle-operator";
/// Silence after which another replica takes over: four missed renewals.
pub const LEASE: Duration = Duration::from_secs(4);
/// A second less than [`LEASE`]: writes that begin before it end before anyone else acts.
const FENCE: Duration = Duration::from_secs(3);
/// Between renewals. One small write a second is what a takeover within seconds costs.
const RENEWAL: Duration = Duration::from_secs(1);
/// Between looks of a replica that waits, and between tries of a renewal that failed.
const RETRY: Duration = Duration::from_millis(500);
/// One request for the Lease; longer ones would eat the fence.
const REQUEST: Duration = Duration::from_secs(1);

/// A request for the Lease that failed; the next try is the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("the API server refuses the Lease")]
    Api(#[source] Box<kube::Error>),
    #[error("no answer about the Lease within {} ms", REQUEST.as_millis())]
    Timeout,
    #[error("another replica changed the Lease meanwhile")]
    Conflict,
}

/// One replica's part in the election.
#[derive(Clone)]
pub struct Elector {
    api: Api<Lease>,
    identity: String,
    fence: Fence,
}

impl std::fmt::Debug for Elector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Elector").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What a waiting replica saw and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sighting {
    version: Option<String>,
    since: Instant,
}

impl Elector {
    pub fn new(client: Client, namespace: &str, identity: &str, fence: Fence) -> Self {
        Self { api: Api::namespaced(client, namespace), identity: identity.to_owned(), fence }
    }

    /// Resolves when this replica holds the Lease.
    pub async fn acquire(&self) -> Lease {
        let mut sighting: Option<Sighting> = None;
        loop {
            match self.try_acquire(&mut sighting).await {
                Ok(Some(lease)) => return lease,
                Ok(None) | Err(LeaseError::Conflict) => {}
                Err(error) => tracing::warn!(error = describe(&error), "leader election"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews for as long as that works. Resolves once the fence has closed: another may act from now on.
    pub async fn keep(&self, mut lease: Lease) {
        let mut next = Instant::now() + RENEWAL;
        loop {
            let Some(end) = self.fence.until() else { return };
            tokio::time::sleep_until(next.min(end)).await;
            if self.fence.remaining().is_none() {
                tracing::error!("the lease could not be renewed in time; another replica may act");
                self.fence.close();
                return;
            }
            match self.write(&lease, Holder::Me).await {
                Ok(renewed) => {
                    lease = renewed;
                    next = Instant::now() + RENEWAL;
                }
                Err(error) => {
                    tracing::warn!(error = describe(&error), "the lease was not renewed");
                    next = Instant::now() + RETRY;
                    if matches!(error, LeaseError::Conflict) && !self.refresh(&mut lease).await {
                        self.fence.close();
                        return;
                    }
                }
            }
        }
    }

    /// Gives the Lease back, so that another replica need not wait for silence. Best effort.
    pub async fn release(&self) {
        self.fence.close();
        let released = async {
            let lease = self.get().await?;
            match lease {
                Some(lease) if holder(&lease) == Some(self.identity.as_str()) => {
                    self.write(&lease, Holder::Nobody).await.map(|_| ())
                }
                Some(_) | None => Ok(()),
            }
        };
        if let Err(error) = released.await {
            tracing::warn!(error = describe(&error), "the lease was not released");
        }
    }

    async fn try_acquire(&self, seen: &mut Option<Sighting>) -> Result<Option<Lease>, LeaseError> {
        let lease = match self.get().await? {
            Some(lease) => lease,
            None => return self.create().await.map(Some),
        };
        let free = holder(&lease).is_none_or(|holder| holder == self.identity);
        let version = lease.metadata.resource_version.clone();
        let known = seen.take().filter(|known| known.version == version);
        let sighting = known.unwrap_or_else(|| Sighting { version, since: Instant::now() });
        let silent = sighting.since.elapsed() >= LEASE;
        *seen = Some(sighting);
        if free || silent {
            return self.write(&lease, Holder::Me).await.map(Some);
        }
        Ok(None)
    }

    /// Whether the Lease is still ours after somebody wrote to it.
    async fn refresh(&self, lease: &mut Lease) -> bool {
        match self.get().await {
            Ok(Some(current)) if holder(&current) == Some(self.identity.as_str()) => {
                *lease = current;
                true
            }
            Ok(Some(_) | None) => false,
            Err(_) => true,
        }
    }

    async fn get(&self) -> Result<Option<Lease>, LeaseError> {
        within(self.api.get_opt(LEASE_NAME)).await
    }

    async fn create(&self) -> Result<Lease, LeaseError> {
        let start = Instant::now();
        let lease = Lease {
            metadata: ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() },
            spec: Some(self.spec(None, Holder::Me)),
        };
        let created = within(self.api.create(&post(), &lease)).await?;
        self.fence.open_until(start + FENCE);
        Ok(created)
    }

    async fn write(&self, lease: &Lease, holder: Holder) -> Result<Lease, LeaseError> {
        let start = Instant::now();
        let spec = Some(self.spec(lease.spec.as_ref(), holder));
        let next = Lease { metadata: lease.metadata.clone(), spec };
        let written = within(self.api.replace(LEASE_NAME, &post(), &next)).await?;
        match holder {
            Holder::Me => self.fence.open_until(start + FENCE),
            Holder::Nobody => {}
        }
        Ok(written)
    }

    fn spec(&self, before: Option<&LeaseSpec>, holder: Holder) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.identity);
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let acquired = before.and_then(|spec| spec.acquire_time.clone());
        let identity = match holder {
            Holder::Me => self.identity.clone(),
            Holder::Nobody => String::new(),
        };
        LeaseSpec {
            holder_identity: Some(identity),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: if mine { acquired } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if mine { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }
}

/// Whom a write names as the holder.
#[derive(Clone, Copy)]
enum Holder {
    Me,
    Nobody,
}

fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}

fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
    match tokio::time::timeout(REQUEST, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(LeaseError::Conflict),
        Ok(Err(error)) => Err(LeaseError::Api(Box::new(error))),
        Err(_) => Err(LeaseError::Timeout),
    }
}
