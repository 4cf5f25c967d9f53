//! Who may talk to an API server and how they know it: certificates, tokens, kubeconfig files.
//!
//! Tokens are random: the API server may listen on the loopback of a machine with other users.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why the files could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("making a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("writing {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("reading /dev/urandom for a token")]
    Random(#[source] io::Error),
}

/// Somebody with a token.
#[derive(Debug, Clone)]
pub struct User {
    /// The kubeconfig is `NAME.kubeconfig`.
    pub file: String,
    pub name: String,
    pub group: Option<&'static str>,
}

impl User {
    /// May do everything.
    pub fn admin() -> Self {
        Self { file: "admin".into(), name: "admin".into(), group: Some("system:masters") }
    }

    /// One of Kubernetes' own programs, bound to a role of the same name.
    pub fn program(name: &str) -> Self {
        Self { file: name.into(), name: format!("system:{name}"), group: None }
    }

    /// A node's kubelet.
    pub fn node(name: &str) -> Self {
        Self { file: name.into(), name: format!("system:node:{name}"), group: Some("system:nodes") }
    }
}

/// Where the API server is reached, for certificates and kubeconfig files.
#[derive(Debug)]
pub struct Server<'a> {
    /// Clients use the first.
    pub addresses: &'a [Ipv4Addr],
    pub port: u16,
}

/// Writes everything into `folder`: ca.crt, api.crt, api.key, sa.pub, sa.key, tokens.csv and a kubeconfig for each user.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, server: &Server<'_>, users: &[User]) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::Write { path: folder.to_path_buf(), source })?;
    let authority = authority()?;
    put(folder, "ca.crt", &authority.pem())?;
    let key = KeyPair::generate()?;
    put(folder, "api.crt", &server_parameters(server)?.signed_by(&key, &authority)?.pem())?;
    put(folder, "api.key", &key.serialize_pem())?;
    let accounts = KeyPair::generate()?;
    put(folder, "sa.key", &accounts.serialize_pem())?;
    put(folder, "sa.pub", &accounts.public_key_pem())?;
    let mut tokens = String::new();
    for user in users {
        let token = token()?;
        let User { file, name, group } = user;
        let groups = group.map(|group| format!(",\"{group}\"")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(tokens, "{token},{name},{file}{groups}");
        put(folder, &format!("{file}.kubeconfig"), &kubeconfig(folder, server, &token))?;
    }
    put(folder, "tokens.csv", &tokens)
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, Error> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "cluster");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

fn server_parameters(server: &Server<'_>) -> Result<CertificateParams, Error> {
    let names = ["kubernetes.default.svc", "kubernetes.default", "localhost"];
    let mut parameters = CertificateParams::new(names.map(str::to_owned))?;
    parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let addresses = server.addresses.iter().map(|&address| SanType::IpAddress(address.into()));
    parameters.subject_alt_names.extend(addresses);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

fn kubeconfig(folder: &Path, server: &Server<'_>, token: &str) -> String {
    let address = server.addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST);
    let (port, authority) = (server.port, folder.join("ca.crt"));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster:
    server: https://{address}:{port}
    certificate-authority: {}
users:
- name: user
  user:
    token: {token}
contexts:
- name: context
  context:
    cluster: cluster
    user: user
current-context: context
",
        authority.display()
    )
}

fn token() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    let mut random = fs::File::open("/dev/urandom").map_err(Error::Random)?;
    random.read_exact(&mut bytes).map_err(Error::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn put(folder: &Path, name: &str, content: &str) -> Result<(), Error> {
    let path = folder.join(name);
    let opened =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    opened
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|source| Error::Write { path, source })
}
