//! Certificates as text → what handshakes need, checked once. Knows no files.

use super::identity::{Identity, IdentityError, Role};
use super::pem::Pem;
use super::{AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;

/// What both sides speak inside TLS: gRPC needs HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// Certificates that cannot be used. Each message names the file, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("{file} cannot be read; mount the Secret with tls.crt, tls.key and ca.crt there")]
    Read { file: String, source: std::io::Error },
    #[error("{file} has more than 1 MiB; it should hold a few certificates")]
    TooLarge { file: String },
    #[error("{file} is no PEM text; issue it again")]
    Pem { file: String, source: pem::Error },
    #[error("{file} has no CERTIFICATE block; issue it again")]
    Empty { file: String },
    #[error("{file} has no private key; it needs one block PRIVATE KEY, as PKCS#8 or SEC 1")]
    NoKey { file: String, source: pem::Error },
    #[error("{file} does not belong to the certificate beside it; issue both again")]
    Key { file: String, source: rustls::Error },
    #[error(
        "certificate {number} of {file} is no authority that can be trusted; put the CA's own certificate there"
    )]
    Authority { file: String, number: usize, source: rustls::Error },
    #[error(
        "certificate {number} of {file} is nobody's authority, so that whoever has its key could pretend to be anybody; \
         put the CA's own certificate there"
    )]
    NoAuthority { file: String, number: usize },
    #[error("{file} cannot be used to check callers")]
    Verifier { file: String, source: VerifierBuilderError },
    #[error("{file} names nobody we know")]
    Identity { file: String, source: IdentityError },
    #[error("{file} is for {found}, but this is {wanted}; mount that role's Secret")]
    Role { file: String, found: Box<Identity>, wanted: Role },
    #[error(
        "{file} is for {found} now, but this process began as {before}; restart it if that is meant"
    )]
    Renamed { file: String, found: Box<Identity>, before: Box<Identity> },
    #[error("the TLS library refuses its settings")]
    Settings { source: rustls::Error },
}

/// One version of a process's certificates, ready for handshakes.
#[derive(Debug)]
pub struct Material {
    pub identity: Identity,
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

impl Material {
    /// Checks everything that can be checked without a peer and without a clock: an expired certificate is the peers'
    /// to refuse, and a process whose clock is wrong should say so to them and not stop.
    pub fn parse(pem: &Pem, role: Role) -> Result<Self, MaterialError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&pem.certificate, pem.file(CERTIFICATE_FILE))?;
        let identity = identity(&chain, pem, role)?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .map_err(|source| MaterialError::NoKey { file: pem.file(KEY_FILE), source })?;
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|source| MaterialError::Key { file: pem.file(KEY_FILE), source })?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let roots = Arc::new(roots(pem)?);
        let server = server(&provider, &roots, &certified, pem)?;
        let client = client(&provider, &roots, &certified)?;
        Ok(Self { identity, server: Arc::new(server), client: Arc::new(client) })
    }
}

fn identity(
    chain: &[CertificateDer<'_>],
    pem: &Pem,
    role: Role,
) -> Result<Identity, MaterialError> {
    let file = || pem.file(CERTIFICATE_FILE);
    let leaf = chain.first().ok_or_else(|| MaterialError::Empty { file: file() })?;
    let identity = Identity::of_certificate(leaf)
        .map_err(|source| MaterialError::Identity { file: file(), source })?;
    if identity.role() != role {
        return Err(MaterialError::Role { file: file(), found: Box::new(identity), wanted: role });
    }
    Ok(identity)
}

fn certificates(text: &[u8], file: String) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let blocks: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match blocks {
        Ok(blocks) if blocks.is_empty() => Err(MaterialError::Empty { file }),
        Ok(blocks) => Ok(blocks),
        Err(source) => Err(MaterialError::Pem { file, source }),
    }
}

/// Several authorities may be trusted at once: while one replaces another, both are.
fn roots(pem: &Pem) -> Result<RootCertStore, MaterialError> {
    let file = || pem.file(AUTHORITIES_FILE);
    let mut roots = RootCertStore::empty();
    for (index, authority) in certificates(&pem.authorities, file())?.into_iter().enumerate() {
        // The TLS library would let any trusted certificate sign others.
        if x509_parser::parse_x509_certificate(&authority).is_ok_and(|(_, parsed)| !parsed.is_ca())
        {
            return Err(MaterialError::NoAuthority { file: file(), number: index + 1 });
        }
        roots.add(authority).map_err(|source| MaterialError::Authority {
            file: file(),
            number: index + 1,
            source,
        })?;
    }
    Ok(roots)
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    certified: &Arc<SingleCertAndKey>,
    pem: &Pem,
) -> Result<ServerConfig, MaterialError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            // Our clients have one certificate and need no hint which to choose.
            .clear_root_hint_subjects()
            .build()
            .map_err(|source| MaterialError::Verifier {
                file: pem.file(AUTHORITIES_FILE),
                source,
            })?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| MaterialError::Settings { source })?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::<SingleCertAndKey>::clone(certified));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A resumed session would not be checked again against the present authorities.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    certified: &Arc<SingleCertAndKey>,
) -> Result<ClientConfig, MaterialError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| MaterialError::Settings { source })?
        .with_root_certificates(Arc::clone(roots))
        .with_client_cert_resolver(Arc::<SingleCertAndKey>::clone(certified));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
