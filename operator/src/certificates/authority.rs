//! One authority and what it issues.

use super::Policy;
use super::validity::Validity;
use proto::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use std::fmt;
use std::time::SystemTime;

/// Random bytes of a serial number. Standards want at least 8 and at most 20.
const SERIAL_BYTES: usize = 16;

/// All names of ours end so; our authorities may certify no others.
const DOMAIN: &str = "boyle.internal";

/// Something that could not be made, or is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the system has no random numbers")]
    Random,
    #[error("a certificate cannot be made")]
    Make { source: rcgen::Error },
    #[error("the certificate is no PEM text")]
    Pem { source: pem::Error },
    #[error("the certificate cannot be read: {reason}")]
    Certificate { reason: String },
    #[error("the certificate is no authority's: it may not sign others")]
    NoAuthority,
    #[error("the private key cannot be read; it should be one block PRIVATE KEY (PKCS#8)")]
    Key { source: rcgen::Error },
    #[error("the private key does not belong to the certificate")]
    OtherKey,
}

/// A private key as PEM. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(String);

impl PrivateKey {
    pub fn new(pem: impl Into<String>) -> Self {
        Self(pem.into())
    }

    /// The key itself, to be written to a Secret and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(redacted)")
    }
}

/// An authority that can sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    certificate: String,
    key: PrivateKey,
    der: CertificateDer<'static>,
    validity: Validity,
}

/// A certificate for a process, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub certificate: String,
    pub key: PrivateKey,
    pub validity: Validity,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// [`CertificateError`] when the system has no random numbers.
    pub fn generate(policy: &Policy, now: SystemTime) -> Result<Self, CertificateError> {
        let serial = serial()?;
        let name: String = serial.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let validity = Validity::new(now, policy.authority_life);
        // Authorities that overlap should be told apart by name.
        let mut parameters = parameters(&validity, &serial, &format!("Boyle authority {name}"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(DOMAIN.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let key = key_pair()?;
        let certificate = parameters.self_signed(&key).map_err(make)?;
        Self::parse(&certificate.pem(), &PrivateKey::new(key.serialize_pem()))
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CertificateError`] when it is none, or the key is another one's.
    pub fn parse(certificate: &str, key: &PrivateKey) -> Result<Self, CertificateError> {
        let der = read_certificate(certificate.as_bytes())?;
        let pair =
            KeyPair::from_pem(key.reveal()).map_err(|source| CertificateError::Key { source })?;
        let parsed = parse_x509(&der)?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err(CertificateError::OtherKey);
        }
        if !parsed.is_ca() {
            return Err(CertificateError::NoAuthority);
        }
        let validity = Validity::of(&parsed);
        Ok(Self { certificate: certificate.to_owned(), key: key.clone(), der, validity })
    }

    /// A certificate for `identity`, for clients and servers alike. It does not outlive the authority.
    ///
    /// # Errors
    /// [`CertificateError`] when the system has no random numbers.
    pub fn issue(
        &self,
        identity: &Identity,
        policy: &Policy,
        now: SystemTime,
    ) -> Result<Leaf, CertificateError> {
        let mut validity = Validity::new(now, policy.leaf_life);
        validity.not_after = validity.not_after.min(self.validity.not_after);
        let common_name = format!("Boyle {}", identity.role());
        let mut parameters = parameters(&validity, &serial()?, &common_name);
        parameters.subject_alt_names =
            vec![rcgen::SanType::DnsName(identity.to_string().try_into().map_err(make)?)];
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signing = KeyPair::from_pem(self.key.reveal())
            .map_err(|source| CertificateError::Key { source })?;
        let issuer = Issuer::from_ca_cert_der(&self.der, signing).map_err(make)?;
        let key = key_pair()?;
        let certificate = parameters.signed_by(&key, &issuer).map_err(make)?;
        Ok(Leaf {
            certificate: certificate.pem(),
            key: PrivateKey::new(key.serialize_pem()),
            validity,
        })
    }

    /// Its certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn validity(&self) -> &Validity {
        &self.validity
    }
}

/// The first certificate of a PEM text.
pub fn read_certificate(pem: &[u8]) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem).map_err(|source| CertificateError::Pem { source })
}

/// Its parts.
pub fn parse_x509<'a>(
    der: &'a CertificateDer<'_>,
) -> Result<x509_parser::certificate::X509Certificate<'a>, CertificateError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(CertificateError::Certificate { reason: error.to_string() }),
    }
}

fn parameters(validity: &Validity, serial: &[u8], common_name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.not_before = validity.not_before.into();
    parameters.not_after = validity.not_after.into();
    parameters.serial_number = Some(SerialNumber::from_slice(serial));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters
}

fn serial() -> Result<[u8; SERIAL_BYTES], CertificateError> {
    let mut serial = [0; SERIAL_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut serial).map_err(|_| CertificateError::Random)?;
    // Serial numbers are positive, and the first byte of a number is not zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn key_pair() -> Result<KeyPair, CertificateError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)
}

fn make(source: rcgen::Error) -> CertificateError {
    CertificateError::Make { source }
}
