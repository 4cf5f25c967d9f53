//! Certificates of every kind, good and bad.

use proto::tls::{Deployment, Identity, Pem, Role, Security};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::time::{Duration, SystemTime};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub fn deployment(name: &str) -> Deployment {
    Deployment::new(name, "ns").unwrap()
}

pub fn agent(name: &str) -> Identity {
    Identity::Agent(deployment(name))
}

pub fn router(name: &str) -> Identity {
    Identity::Router(deployment(name))
}

pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate says.
pub struct Leaf {
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub usages: Vec<ExtendedKeyUsagePurpose>,
}

#[allow(clippy::needless_pass_by_value, reason = "tables read better without borrows")]
impl Leaf {
    pub fn new(name: impl ToString) -> Self {
        let now = SystemTime::now();
        Self {
            names: vec![name.to_string()],
            not_before: now - DAY,
            not_after: now + DAY,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    pub fn expired(self) -> Self {
        let now = SystemTime::now();
        Self { not_before: now - 2 * DAY, not_after: now - DAY, ..self }
    }

    pub fn of_tomorrow(self) -> Self {
        let now = SystemTime::now();
        Self { not_before: now + DAY, not_after: now + 2 * DAY, ..self }
    }

    pub fn only_for(self, usage: ExtendedKeyUsagePurpose) -> Self {
        Self { usages: vec![usage], ..self }
    }

    pub fn with_name(mut self, name: impl ToString) -> Self {
        self.names.push(name.to_string());
        self
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(parameters, key) }
    }

    /// A certificate of this authority, and these authorities trusted.
    pub fn issue(&self, leaf: &Leaf, trusted: &[&Self]) -> Pem {
        let mut parameters = CertificateParams::default();
        let san = |name: &String| SanType::DnsName(name.clone().try_into().unwrap());
        parameters.subject_alt_names = leaf.names.iter().map(san).collect();
        parameters.not_before = leaf.not_before.into();
        parameters.not_after = leaf.not_after.into();
        parameters.extended_key_usages.clone_from(&leaf.usages);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let authorities: String = trusted.iter().map(|it| it.certificate.as_str()).collect();
        Pem {
            origin: "test".into(),
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            authorities: authorities.into_bytes(),
        }
    }

    /// What a well-kept process has.
    pub fn security(&self, identity: &Identity) -> Security {
        Security::from_pem(self.issue(&Leaf::new(identity), &[self]), identity.role()).unwrap()
    }

    pub fn security_with(&self, leaf: &Leaf, role: Role) -> Security {
        Security::from_pem(self.issue(leaf, &[self]), role).unwrap()
    }
}
