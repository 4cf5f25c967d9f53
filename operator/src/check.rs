//! `boyle-operator check`: does an installation work? For `helm test`, and for a person in doubt.
//!
//! Asks what the operator itself needs: the resource is served, it may be read, and a replica holds the Lease and
//! keeps renewing it. Changes nothing.

use crate::settings::WatchScope;
use crate::watch::deployment::Written;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::Instant;

/// Name of the Lease by which replicas agree who acts.
const LEASE: &str = crate::leader::LEASE_NAME;
/// A fresh installation pulls an image and elects a leader first.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks; the holder renews about every second.
const PAUSE: Duration = Duration::from_secs(1);

/// What is wrong with an installation.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(
        "the API server does not serve modeldeployments.boyle.dev; apply charts/boyle/crds, which Helm installs only \
         with the first release"
    )]
    NoResource,
    #[error(
        "modeldeployments.boyle.dev cannot be listed; compare the operator's role with the chart's"
    )]
    List(#[source] Box<kube::Error>),
    #[error("the Lease {LEASE} of {namespace} cannot be read")]
    Lease {
        namespace: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(
        "no replica of the operator holds and renews the Lease {LEASE} of {namespace} within {} s; see \
         `kubectl logs -n {namespace} deployment/boyle-operator`",
        PATIENCE.as_secs()
    )]
    NobodyActs { namespace: String },
}

/// Checks the installation around an operator's namespace and says in one line what was found.
///
/// # Errors
/// The first thing that is wrong.
pub async fn check(
    client: Client,
    namespace: &str,
    scope: &WatchScope,
) -> Result<String, CheckError> {
    let deployments: Api<Written> = match scope {
        WatchScope::Cluster => Api::all(client.clone()),
        WatchScope::Namespace(watched) => Api::namespaced(client.clone(), watched),
    };
    deployments.list_metadata(&ListParams::default().limit(1)).await.map_err(
        |error| match error {
            kube::Error::Api(status) if status.code == 404 => CheckError::NoResource,
            other => CheckError::List(Box::new(other)),
        },
    )?;
    let holder = renewing_holder(&Api::namespaced(client, namespace), namespace).await?;
    Ok(format!("modeldeployments.boyle.dev is served, and {holder} acts"))
}

/// Waits until the Lease has a holder and changes under it: only a living replica renews.
async fn renewing_holder(leases: &Api<Lease>, namespace: &str) -> Result<String, CheckError> {
    let end = Instant::now() + PATIENCE;
    let mut before: Option<(String, Option<String>)> = None;
    while Instant::now() < end {
        let failed = |source| CheckError::Lease {
            namespace: namespace.to_owned(),
            source: Box::new(source),
        };
        let lease = leases.get_opt(LEASE).await.map_err(failed)?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        let now = holder.filter(|holder| !holder.is_empty()).map(|holder| (holder, version));
        if let (Some((old, old_version)), Some((new, new_version))) = (&before, &now)
            && old == new
            && old_version != new_version
        {
            return Ok(new.clone());
        }
        before = now;
        tokio::time::sleep(PAUSE).await;
    }
    Err(CheckError::NobodyActs { namespace: namespace.to_owned() })
}
