//! Certificates of a deployment's agents and routers, kept as Secrets, and the operator's own. `certificates` decides;
//! this reads and writes.

use crate::apply::ApplyError;
use crate::certificates::{
    AUTHORITY_SECRET, Authorities, CertificateError, Leaf, Policy, SecretError, Situation, Verdict,
    judge, read_authorities,
};
use crate::context::Context;
use crate::error::describe;
use crate::key::{DeploymentKey, HASH_ANNOTATION, MANAGED_BY_LABEL, MANAGER};
use crate::render::{Component, Target};
use crate::settings::{Settings, Transport};
use crate::watch::Kind;
use crate::watch::cache::Owner;
use crate::watch::object::RENEW_ANNOTATION;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use proto::tls::{Deployment, Identity, Role, Security, SecurityError};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use substrate::Dialer;
use tokio::time::Instant;

/// The authority's Secret is asked for again after this when the API server fails.
const RETRY: Duration = Duration::from_secs(1);
/// A Secret that somebody else fills is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// The operator's own certificate is renewed this often: it is kept nowhere and costs nothing.
const OWN_RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("make a certificate")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Secret(#[from] Box<SecretError>),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("the operator's own certificate cannot be used")]
    Own(#[from] SecurityError),
    #[error("{key} is no name for certificates")]
    Name { key: String, source: proto::tls::IdentityError },
}

/// Who certifies, and what the operator shows of itself.
#[derive(Debug)]
pub enum Authority {
    /// Nobody: agents and routers are on this machine.
    Plaintext,
    Own(Box<Own>),
}

/// The operator's own authority.
#[derive(Debug)]
pub struct Own {
    authorities: Authorities,
    bundle_hash: String,
    security: Security,
    policy: Policy,
    /// Secrets of others that were looked at, and when.
    looked: Mutex<HashMap<(DeploymentKey, String), Instant>>,
}

impl Authority {
    /// Takes up the operator's own authority, or makes it. Tries until it works.
    pub async fn open(client: &Client, settings: &Settings) -> Self {
        match settings.transport {
            Transport::Plaintext => return Self::Plaintext,
            Transport::MutualTls => {}
        }
        loop {
            match open(client, &settings.namespace).await {
                Ok(own) => return Self::Own(Box::new(own)),
                Err(error) => {
                    tracing::error!(error = describe(&error), "the certificate authority");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// How the operator reaches a deployment's agents and routers.
    ///
    /// # Errors
    /// [`IdentityError::Name`].
    pub fn dialer(&self, key: &DeploymentKey) -> Result<Dialer, IdentityError> {
        match self {
            Self::Plaintext => Ok(Dialer::plaintext()),
            Self::Own(own) => Ok(Dialer::new(own.security.clone(), &deployment(key)?)),
        }
    }

    /// Renews the operator's own certificate for ever.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(OWN_RENEWAL).await;
            let Self::Own(own) = self else { continue };
            if let Err(error) = own.renew().await {
                tracing::error!(error = describe(&error), "renew the operator's certificate");
            }
        }
    }
}

impl Own {
    fn new(authorities: Authorities) -> Result<Self, IdentityError> {
        let policy = Policy::default();
        let leaf = authorities.issue(&Identity::Operator, &policy, SystemTime::now())?;
        let security = Security::from_pem(leaf.pem("the operator", &authorities), Role::Operator)?;
        let digest = Sha256::digest(authorities.bundle().as_bytes());
        let bundle_hash = digest.iter().take(8).map(|it| format!("{it:02x}")).collect();
        Ok(Self { authorities, bundle_hash, security, policy, looked: Mutex::default() })
    }

    async fn renew(&self) -> Result<(), IdentityError> {
        let leaf = self.authorities.issue(&Identity::Operator, &self.policy, SystemTime::now())?;
        match &self.security {
            Security::Plaintext => Ok(()),
            Security::Mtls(mtls) => {
                Ok(mtls.replace(leaf.pem("the operator", &self.authorities)).await?)
            }
        }
    }

    fn looked_lately(&self, key: &DeploymentKey, name: &str) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let at = looked.get(&(key.clone(), name.to_owned()));
        at.is_some_and(|at| at.elapsed() < LOOK_AGAIN)
    }

    fn note_look(&self, key: &DeploymentKey, name: &str) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.retain(|_, at| at.elapsed() < LOOK_AGAIN);
        looked.insert((key.clone(), name.to_owned()), Instant::now());
    }
}

/// Makes sure that agents and routers find certificates that hold for long enough.
///
/// # Errors
/// [`IdentityError`]; what could be made was.
pub async fn ensure(
    context: &Context,
    key: &DeploymentKey,
    target: &Target,
) -> Result<(), IdentityError> {
    let Authority::Own(own) = &context.authority else { return Ok(()) };
    let names = target.names();
    let parts = [
        (names.agent_tls(), Role::Agent, Component::Agent),
        (names.router_tls(), Role::Router, Component::Router),
    ];
    for (name, role, component) in parts {
        if is_fresh(context, own, key, &name) {
            continue;
        }
        let identity = Identity::of(role, deployment(key)?);
        let wanted = Wanted { name: &name, identity: &identity, target, component };
        renew(context, own, key, &wanted).await?;
    }
    Ok(())
}

/// One Secret as it should be.
struct Wanted<'a> {
    name: &'a str,
    identity: &'a Identity,
    target: &'a Target,
    component: Component,
}

/// Whether what the watch shows of a Secret needs no look inside.
fn is_fresh(context: &Context, own: &Own, key: &DeploymentKey, name: &str) -> bool {
    let secrets = context.caches.objects(Kind::Secret);
    let Some(facts) = secrets.get(&Owner::Deployment(key.clone()), name) else {
        return own.looked_lately(key, name);
    };
    let ours = facts.hash.as_deref() == Some(own.bundle_hash.as_str());
    ours && facts.renew_after.is_some_and(|at| seconds(SystemTime::now()) < at)
}

async fn renew(
    context: &Context,
    own: &Own,
    key: &DeploymentKey,
    wanted: &Wanted<'_>,
) -> Result<(), IdentityError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), key.namespace());
    let failed = |error: kube::Error| ApplyError::of(Kind::Secret, wanted.name, &error);
    let found = api.get_opt(wanted.name).await.map_err(failed)?;
    let now = SystemTime::now();
    let title = format!("{}/{}", key.namespace(), wanted.name);
    let (identity, authorities) = (wanted.identity, &own.authorities);
    let situation = Situation { secret: &title, wanted: identity, authorities, now };
    match judge(found.as_ref(), situation).map_err(Box::new)? {
        Verdict::Keep(_) | Verdict::CertManager(_) => {
            // The watch shows ours; were they noted, one that is deleted would be missing until the note is old.
            if !found.as_ref().is_some_and(is_ours) {
                own.note_look(key, wanted.name);
            }
            Ok(())
        }
        Verdict::Issue(cause) => {
            tracing::info!(secret = title, ?cause, "issue a certificate");
            let leaf = own.authorities.issue(wanted.identity, &own.policy, now)?;
            let secret = secret(own, wanted, &leaf);
            let parameters = PatchParams::apply(MANAGER).force();
            api.patch(wanted.name, &parameters, &Patch::Apply(&secret)).await.map_err(failed)?;
            Ok(())
        }
    }
}

/// Whether the operator keeps this Secret, so that the watch shows it.
fn is_ours(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY_LABEL)).is_some_and(|by| by == MANAGER)
}

fn secret(own: &Own, wanted: &Wanted<'_>, leaf: &Leaf) -> Secret {
    let Wanted { name, identity: _, target, component } = wanted;
    let annotations = BTreeMap::from([
        (HASH_ANNOTATION.to_owned(), own.bundle_hash.clone()),
        (RENEW_ANNOTATION.to_owned(), seconds(leaf.validity.renew_at()).to_string()),
    ]);
    Secret {
        metadata: ObjectMeta {
            name: Some((*name).to_owned()),
            namespace: Some(target.namespace.clone()),
            labels: Some(target.names().labels(*component)),
            annotations: Some(annotations),
            owner_references: Some(vec![target.owner.clone()]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(leaf.data(&own.authorities)),
        ..Secret::default()
    }
}

/// Reads the authority's Secret, or makes it; of two operators that make one, the first wins.
async fn open(client: &Client, namespace: &str) -> Result<Own, IdentityError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let title = format!("{namespace}/{AUTHORITY_SECRET}");
    let failed = |error: kube::Error| ApplyError::of(Kind::Secret, AUTHORITY_SECRET, &error);
    if let Some(found) = api.get_opt(AUTHORITY_SECRET).await.map_err(failed)? {
        let data = found.data.unwrap_or_default();
        return Own::new(read_authorities(&data, &title).map_err(Box::new)?);
    }
    let authorities = Authorities::generate(&Policy::default(), SystemTime::now())?;
    let labels = BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned())]);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(AUTHORITY_SECRET.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(authorities.data()),
        ..Secret::default()
    };
    api.create(&PostParams::default(), &secret).await.map_err(failed)?;
    Own::new(authorities)
}

fn deployment(key: &DeploymentKey) -> Result<Deployment, IdentityError> {
    Deployment::new(key.name(), key.namespace())
        .map_err(|source| IdentityError::Name { key: key.to_string(), source })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
