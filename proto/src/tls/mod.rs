//! Who may talk to whom, and how: plaintext on one machine, or mutual TLS between machines.
//!
//! A certificate names a role in a deployment ([`Identity`]), never an address. A client says whom it expects
//! ([`Expected`]), a server decides by the caller's name what it may call ([`Authorise`]). Certificates are read from a
//! folder and read again when they change; connections that are open stay open. Knows nothing of who issues them.

mod authorise;
mod channel;
mod identity;
mod incoming;
mod material;
mod pem;
mod store;

pub use authorise::{Authorise, Authorised, RULES, Rule};
pub use channel::{ConnectError, Expected};
pub use identity::{Deployment, Identity, IdentityError, Role};
pub use incoming::{Caller, Connection, HANDSHAKES_MAX, Incoming};
pub use material::MaterialError;
pub use pem::Pem;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::Store;

/// Files of a certificate folder; those of a Kubernetes Secret of the type `kubernetes.io/tls`, and the authorities.
pub const CERTIFICATE_FILE: &str = "tls.crt";
pub const KEY_FILE: &str = "tls.key";
pub const AUTHORITIES_FILE: &str = "ca.crt";

/// How often a handshake looks whether the certificates have changed. Kubernetes brings a changed Secret to its pods
/// within a minute or two, so a few seconds more do not matter, and a burst of handshakes does not become a burst of
/// file reads.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(3);

/// A handshake takes milliseconds; who takes longer is not there, or wants to hold the place.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How this process talks to the others.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// No secrets and no names: everybody who reaches the port may call. For one machine.
    #[default]
    Plaintext,
    /// Both sides show a certificate.
    Mtls(Mtls),
}

/// Mutual TLS with certificates that may change while it is used.
#[derive(Clone, Debug)]
pub struct Mtls {
    store: Arc<Store>,
}

/// Where a server without TLS may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaintextReach {
    /// Where only this machine can call.
    Loopback,
    /// Anywhere: something else protects the network.
    Anywhere,
}

/// The process must not run with this security.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("the certificates cannot be used")]
    Material(#[from] MaterialError),
    #[error(
        "{address} can be reached from other machines, and without certificates anybody could call it; give \
         --tls-directory (BOYLE_TLS_DIRECTORY), listen on 127.0.0.1, or say --insecure-plaintext if the network is \
         protected otherwise"
    )]
    Exposed { address: SocketAddr },
}

impl Security {
    /// mTLS with the folder's certificates, plaintext without a folder.
    ///
    /// # Errors
    /// [`SecurityError::Material`] names the file, what is wrong with it, and what to do.
    pub fn from_directory(directory: Option<&Path>, role: Role) -> Result<Self, SecurityError> {
        let Some(directory) = directory else { return Ok(Self::Plaintext) };
        let store = Store::from_directory(directory, role)?;
        Ok(Self::Mtls(Mtls { store: Arc::new(store) }))
    }

    /// mTLS with certificates that the process has made or been given; [`Mtls::replace`] renews them.
    ///
    /// # Errors
    /// [`SecurityError::Material`].
    pub fn from_pem(pem: Pem, role: Role) -> Result<Self, SecurityError> {
        let store = Store::from_pem(pem, role)?;
        Ok(Self::Mtls(Mtls { store: Arc::new(store) }))
    }

    /// The same, looking for changed files at most this often. Zero is at every handshake.
    #[must_use]
    pub fn with_reload_interval(self, interval: Duration) -> Self {
        match self {
            Self::Plaintext => Self::Plaintext,
            Self::Mtls(mtls) => {
                let store = mtls.store.with_reload_interval(interval);
                Self::Mtls(Mtls { store: Arc::new(store) })
            }
        }
    }

    /// Refuses an address where strangers could call a server without TLS.
    ///
    /// # Errors
    /// [`SecurityError::Exposed`].
    pub fn check_listen(
        &self,
        address: SocketAddr,
        reach: PlaintextReach,
    ) -> Result<(), SecurityError> {
        match (self, reach) {
            (Self::Plaintext, PlaintextReach::Loopback) if !address.ip().is_loopback() => {
                Err(SecurityError::Exposed { address })
            }
            (Self::Plaintext, PlaintextReach::Loopback | PlaintextReach::Anywhere)
            | (Self::Mtls(_), PlaintextReach::Loopback | PlaintextReach::Anywhere) => Ok(()),
        }
    }

    /// The name in this process's certificate; none without TLS.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Plaintext => None,
            Self::Mtls(mtls) => Some(mtls.store.own()),
        }
    }
}

impl Mtls {
    /// Uses other certificates for new connections.
    ///
    /// # Errors
    /// [`SecurityError::Material`]; the former ones stay in use then.
    pub async fn replace(&self, pem: Pem) -> Result<(), SecurityError> {
        Ok(self.store.replace(pem).await?)
    }
}
