//! Secrets ↔ certificates, and what is to be done about a Secret. Pure.

use super::authority::{
    Authority, CertificateError, Leaf, PrivateKey, parse_x509, read_certificate,
};
use super::rotation::{Authorities, Retired};
use super::validity::Validity;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use proto::tls::{AUTHORITIES_FILE, CERTIFICATE_FILE, Identity, KEY_FILE, MaterialError, Pem};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// In the operator's namespace: the operator's own authorities.
pub const AUTHORITY_SECRET: &str = "boyle-ca";
/// cert-manager writes it on Secrets that it fills.
pub const CERT_MANAGER_ANNOTATION: &str = "cert-manager.io/certificate-name";

const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
const MANAGER: &str = "boyle-operator";

/// Keys of the authorities' Secret beside `tls.crt` and `tls.key`, while one authority replaces another.
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";

/// A Secret's content.
pub type Data = BTreeMap<String, ByteString>;

/// A Secret that cannot be used, and that is not the operator's to repair. Messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "Secret {secret} has no key {key}; restore it from a backup, or delete the Secret and the operator makes a new authority"
    )]
    AuthorityKeyMissing { secret: String, key: &'static str },
    #[error(
        "key {key} of Secret {secret} is no text; restore it from a backup, or delete the Secret and the operator makes a new authority"
    )]
    AuthorityText { secret: String, key: &'static str },
    #[error(
        "key {key} of Secret {secret} is not what it should be; restore it from a backup, or delete the Secret and the operator makes a new authority"
    )]
    Authority { secret: String, key: &'static str, source: CertificateError },
    #[error(
        "Secret {secret} has no key {key} yet: cert-manager has not filled it; see the status of Certificate {certificate}"
    )]
    NotFilled { secret: String, key: &'static str, certificate: String },
    #[error(
        "what cert-manager put in Secret {secret} cannot be used; repair Certificate {certificate}"
    )]
    CertManager { secret: String, certificate: String, source: Box<MaterialError> },
    #[error(
        "what cert-manager put in Secret {secret} is for {found}; give Certificate {certificate} the dnsNames entry {wanted}"
    )]
    CertManagerName {
        secret: String,
        certificate: String,
        found: Box<Identity>,
        wanted: Box<Identity>,
    },
    #[error(
        "key {key} of Secret {secret} is no certificate; delete the Secret and it is made again"
    )]
    Certificate { secret: String, key: &'static str, source: CertificateError },
    #[error(
        "Secret {secret} exists, and neither the operator nor cert-manager made it; delete or rename it, and the operator makes its own"
    )]
    Foreign { secret: String },
}

/// What a Secret is looked at with.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// `NAMESPACE/NAME`, for messages.
    pub secret: &'a str,
    pub wanted: &'a Identity,
    pub authorities: &'a Authorities,
    pub now: SystemTime,
}

/// What is to be done about a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is well.
    Keep(Checked),
    /// cert-manager looks after it.
    CertManager(Checked),
    /// A certificate is to be issued and written.
    Issue(Cause),
}

/// Why a certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is no Secret.
    Missing,
    /// It was written by half, or changed by somebody.
    Broken { reason: String },
    /// Two thirds of its life are over, or it comes from the future.
    Due,
    /// It is for somebody else.
    OtherIdentity { found: Identity },
    /// Others are trusted now, or another one signs.
    OtherAuthorities,
}

/// A certificate that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    leaf: CertificateDer<'static>,
    trusted: Vec<CertificateDer<'static>>,
    identity: Identity,
    validity: Validity,
}

impl Checked {
    /// Reads what a Secret holds.
    fn read(pem: &Pem, identity: Identity) -> Result<Self, CertificateError> {
        let leaf = read_certificate(&pem.certificate)?;
        let trusted: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.authorities).collect();
        let trusted = trusted.map_err(|source| CertificateError::Pem { source })?;
        let validity = Validity::of(&parse_x509(&leaf)?);
        Ok(Self { leaf, trusted, identity, validity })
    }

    /// Of a certificate that is kept in no Secret, as the operator's own.
    ///
    /// # Errors
    /// [`CertificateError`] when it is none.
    pub fn of(
        leaf: &Leaf,
        authorities: &Authorities,
        identity: Identity,
    ) -> Result<Self, CertificateError> {
        Self::read(&leaf.pem("memory", authorities), identity)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn validity(&self) -> &Validity {
        &self.validity
    }

    /// Whether its holder accepts certificates of `authority`.
    pub fn trusts(&self, authority: &Authority) -> bool {
        self.trusted.contains(authority.der())
    }

    /// Whether `authority` signed it, at whatever time.
    pub fn is_issued_by(&self, authority: &Authority) -> bool {
        // Right after it was made it was valid, unless somebody else signed it.
        accepted(&self.leaf, authority, &self.identity, self.validity.issued_at())
    }
}

impl Leaf {
    /// As a process takes it.
    pub fn pem(&self, origin: &str, authorities: &Authorities) -> Pem {
        Pem {
            origin: origin.to_owned(),
            certificate: self.certificate.clone().into_bytes(),
            key: self.key.reveal().as_bytes().to_owned(),
            authorities: authorities.bundle().into_bytes(),
        }
    }

    /// As a Secret of the type `kubernetes.io/tls` holds it.
    pub fn data(&self, authorities: &Authorities) -> Data {
        Data::from([
            (CERTIFICATE_FILE.to_owned(), text(&self.certificate)),
            (KEY_FILE.to_owned(), text(self.key.reveal())),
            (AUTHORITIES_FILE.to_owned(), text(&authorities.bundle())),
        ])
    }
}

impl Authorities {
    /// As the Secret [`AUTHORITY_SECRET`] holds them.
    pub fn data(&self) -> Data {
        let mut data = Data::from([
            (CERTIFICATE_FILE.to_owned(), text(self.signing.certificate())),
            (KEY_FILE.to_owned(), text(self.signing.key().reveal())),
        ]);
        if let Some(next) = &self.next {
            data.insert(NEXT_CERTIFICATE.to_owned(), text(next.certificate()));
            data.insert(NEXT_KEY.to_owned(), text(next.key().reveal()));
        }
        if let Some(previous) = &self.previous {
            data.insert(PREVIOUS_CERTIFICATE.to_owned(), text(&previous.certificate));
        }
        data
    }
}

/// Reads the Secret [`AUTHORITY_SECRET`], called `secret` in messages.
///
/// # Errors
/// [`SecretError`]: a broken authority is never replaced unasked, for every agent and router trusts it.
pub fn read_authorities(data: &Data, secret: &str) -> Result<Authorities, SecretError> {
    let reader = Reader { data, secret };
    let signing = reader.authority(CERTIFICATE_FILE, KEY_FILE)?;
    let next = match data.get(NEXT_CERTIFICATE) {
        Some(_) => Some(reader.authority(NEXT_CERTIFICATE, NEXT_KEY)?),
        None => None,
    };
    let previous = match data.get(PREVIOUS_CERTIFICATE) {
        Some(_) => Some(reader.retired()?),
        None => None,
    };
    Ok(Authorities { signing, next, previous })
}

struct Reader<'a> {
    data: &'a Data,
    secret: &'a str,
}

impl Reader<'_> {
    fn authority(
        &self,
        certificate: &'static str,
        key: &'static str,
    ) -> Result<Authority, SecretError> {
        let (certificate_text, key_text) = (self.text(certificate)?, self.text(key)?);
        Authority::parse(certificate_text, &PrivateKey::new(key_text)).map_err(|source| {
            let at_fault = match source {
                CertificateError::Key { .. } | CertificateError::OtherKey => key,
                CertificateError::Random
                | CertificateError::Make { .. }
                | CertificateError::Pem { .. }
                | CertificateError::Certificate { .. }
                | CertificateError::NoAuthority => certificate,
            };
            self.wrong(at_fault, source)
        })
    }

    fn retired(&self) -> Result<Retired, SecretError> {
        let certificate = self.text(PREVIOUS_CERTIFICATE)?;
        Retired::parse(certificate).map_err(|source| self.wrong(PREVIOUS_CERTIFICATE, source))
    }

    fn text(&self, key: &'static str) -> Result<&str, SecretError> {
        let secret = || self.secret.to_owned();
        let bytes = self
            .data
            .get(key)
            .filter(|bytes| !bytes.0.is_empty())
            .ok_or_else(|| SecretError::AuthorityKeyMissing { secret: secret(), key })?;
        std::str::from_utf8(&bytes.0)
            .map_err(|_| SecretError::AuthorityText { secret: secret(), key })
    }

    fn wrong(&self, key: &'static str, source: CertificateError) -> SecretError {
        SecretError::Authority { secret: self.secret.to_owned(), key, source }
    }
}

/// Looks at the Secret of an identity.
///
/// # Errors
/// [`SecretError`] when it is somebody else's and cannot be used.
pub fn judge(secret: Option<&Secret>, situation: Situation<'_>) -> Result<Verdict, SecretError> {
    let Some(secret) = secret else { return Ok(Verdict::Issue(Cause::Missing)) };
    let annotations = secret.metadata.annotations.as_ref();
    if let Some(certificate) = annotations.and_then(|all| all.get(CERT_MANAGER_ANNOTATION)) {
        return cert_manager(secret, certificate, situation).map(Verdict::CertManager);
    }
    let labels = secret.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(MANAGED_BY_LABEL)).is_none_or(|by| by != MANAGER) {
        return Err(SecretError::Foreign { secret: situation.secret.to_owned() });
    }
    Ok(own(secret, situation))
}

fn own(secret: &Secret, situation: Situation<'_>) -> Verdict {
    let Situation { wanted, authorities, now, .. } = situation;
    let broken = |reason| Verdict::Issue(Cause::Broken { reason });
    let pem = match pem(secret, situation.secret) {
        Ok(pem) => pem,
        Err(key) => return broken(format!("key {key} is missing")),
    };
    let found = match pem.check(wanted.role()) {
        Ok(found) => found,
        Err(MaterialError::Role { found, .. }) => {
            return Verdict::Issue(Cause::OtherIdentity { found: *found });
        }
        Err(error) => return broken(error.to_string()),
    };
    if found != *wanted {
        return Verdict::Issue(Cause::OtherIdentity { found });
    }
    let checked = match Checked::read(&pem, found) {
        Ok(checked) => checked,
        Err(error) => return broken(error.to_string()),
    };
    if checked.validity.is_due(now) {
        return Verdict::Issue(Cause::Due);
    }
    let signing = authorities.signing();
    if pem.authorities != authorities.bundle().as_bytes() || !checked.is_issued_by(signing) {
        return Verdict::Issue(Cause::OtherAuthorities);
    }
    Verdict::Keep(checked)
}

fn cert_manager(
    secret: &Secret,
    certificate: &str,
    situation: Situation<'_>,
) -> Result<Checked, SecretError> {
    let name = || situation.secret.to_owned();
    let certificate = || certificate.to_owned();
    let pem = pem(secret, situation.secret).map_err(|key| SecretError::NotFilled {
        secret: name(),
        key,
        certificate: certificate(),
    })?;
    let other = |found| SecretError::CertManagerName {
        secret: name(),
        certificate: certificate(),
        found,
        wanted: Box::new(situation.wanted.clone()),
    };
    let found = match pem.check(situation.wanted.role()) {
        Ok(found) => found,
        Err(MaterialError::Role { found, .. }) => return Err(other(found)),
        Err(source) => {
            let (secret, certificate, source) = (name(), certificate(), Box::new(source));
            return Err(SecretError::CertManager { secret, certificate, source });
        }
    };
    if found != *situation.wanted {
        return Err(other(Box::new(found)));
    }
    Checked::read(&pem, found).map_err(|source| SecretError::Certificate {
        secret: name(),
        key: CERTIFICATE_FILE,
        source,
    })
}

/// The Secret's three files, or the key that it lacks.
fn pem(secret: &Secret, origin: &str) -> Result<Pem, &'static str> {
    let get = |key: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.filter(|bytes| !bytes.0.is_empty()).map(|bytes| bytes.0.clone()).ok_or(key)
    };
    Ok(Pem {
        origin: origin.to_owned(),
        certificate: get(CERTIFICATE_FILE)?,
        key: get(KEY_FILE)?,
        authorities: get(AUTHORITIES_FILE)?,
    })
}

/// Whether a peer that trusts this authority alone would accept the certificate at that time.
fn accepted(
    leaf: &CertificateDer<'_>,
    authority: &Authority,
    identity: &Identity,
    at: SystemTime,
) -> bool {
    let mut roots = RootCertStore::empty();
    let Ok(()) = roots.add(authority.der().clone()) else { return false };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let (Ok(verifier), Ok(name)) = (verifier, ServerName::try_from(identity.to_string())) else {
        return false;
    };
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier.verify_server_cert(leaf, &[], &name, &[], at).is_ok()
}

fn text(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_owned())
}
