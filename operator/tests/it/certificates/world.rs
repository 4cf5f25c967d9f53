//! A Secret of an agent, the time, and what a peer thinks.

use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use operator::certificates::{
    Authorities, CERT_MANAGER_ANNOTATION, Data, Policy, SecretError, Situation, Verdict, judge,
};
use proto::tls::{Deployment, Identity};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub const HOUR: Duration = Duration::from_secs(60 * 60);

pub fn policy() -> Policy {
    Policy::default()
}

/// A day of 2030.
pub fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

pub fn agent() -> Identity {
    Identity::Agent(Deployment::new("r1", "ns").unwrap())
}

pub fn authorities() -> Authorities {
    Authorities::generate(&policy(), start()).unwrap()
}

fn secret(data: Data) -> Secret {
    Secret { data: Some(data), ..Secret::default() }
}

/// As the operator writes it.
pub fn ours(data: Data) -> Secret {
    let labels = [("app.kubernetes.io/managed-by", "boyle-operator")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let metadata = ObjectMeta { labels: Some(BTreeMap::from(labels)), ..ObjectMeta::default() };
    Secret { metadata, ..secret(data) }
}

/// As cert-manager writes it.
pub fn cert_managers(data: Data) -> Secret {
    let annotations =
        BTreeMap::from([(CERT_MANAGER_ANNOTATION.to_owned(), "r1-agents".to_owned())]);
    let metadata = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
    Secret { metadata, ..secret(data) }
}

/// As somebody writes it.
pub fn strangers(data: Data) -> Secret {
    secret(data)
}

pub fn issue(authorities: &Authorities, identity: &Identity, now: SystemTime) -> Data {
    authorities.issue(identity, &policy(), now).unwrap().data(authorities)
}

pub fn look(
    secret: Option<&Secret>,
    authorities: &Authorities,
    now: SystemTime,
) -> Result<Verdict, SecretError> {
    let wanted = &agent();
    judge(secret, Situation { secret: "ns/r1-agent-tls", wanted, authorities, now })
}

/// An error and its causes.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
