//! Certificates of agents, routers and the operator, for clusters with mutual TLS.

use proto::tls::{Deployment, Identity, Pem, Role, Security};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Who signs.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// How an agent runs, and how others call it.
#[derive(Clone)]
pub struct Credentials {
    pub agent: Security,
    pub router: Security,
    pub operator: Security,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(parameters, key) }
    }

    pub fn security(&self, identity: &Identity) -> Security {
        let mut parameters = CertificateParams::default();
        let name = identity.to_string().try_into().unwrap();
        parameters.subject_alt_names = vec![SanType::DnsName(name)];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let pem = Pem {
            origin: "test".into(),
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            authorities: self.certificate.clone().into_bytes(),
        };
        Security::from_pem(pem, identity.role()).unwrap()
    }

    /// Of one deployment.
    pub fn credentials(&self, deployment: &str) -> Credentials {
        let deployment = Deployment::new(deployment, "ns").unwrap();
        let of = |role| self.security(&Identity::of(role, deployment.clone()));
        Credentials {
            agent: of(Role::Agent),
            router: of(Role::Router),
            operator: of(Role::Operator),
        }
    }
}

impl Credentials {
    pub fn plaintext() -> Self {
        let none = Security::Plaintext;
        Self { agent: none.clone(), router: none.clone(), operator: none }
    }
}
