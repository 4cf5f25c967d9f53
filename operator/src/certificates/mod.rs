//! Certificates for agents, routers and the operator: made, checked, renewed, and their authorities replaced.
//!
//! Pure but for random numbers: the time is an argument, Secrets are values, and whoever calls writes them. Knows no API
//! server.
//!
//! ```text
//! Secret boyle-ca ──► Authorities ──► issue ──► Secret NAME-agent-tls, NAME-router-tls, the operator's own
//!                         ▲ advance ◄── inspect ◄──┘
//! ```
//!
//! An authority is replaced in three steps, so that at each moment everybody trusts everybody: the next one joins the
//! bundle of trusted authorities, then certificates are issued by it, then the former one leaves the bundle. Between the
//! steps lies [`Policy::spread`], in which the changed Secrets reach the pods.
//!
//! Secrets that cert-manager fills are used as they are. Their issuer must be of the authority in `boyle-ca`, from which the
//! operator's own certificate comes: agents and routers would refuse it otherwise.

mod authority;
mod rotation;
mod secret;
mod validity;

pub use authority::{Authority, CertificateError, Leaf, PrivateKey};
pub use rotation::Authorities;
pub use secret::{
    AUTHORITY_SECRET, CERT_MANAGER_ANNOTATION, Cause, Checked, Data, SecretError, Situation,
    Verdict, judge, read_authorities,
};
pub use validity::Validity;

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// An authority's life.
    pub authority_life: Duration,
    /// A certificate's life.
    pub leaf_life: Duration,
    /// From a Secret's change until every pod that mounts it uses it. The kubelet needs a minute or two and processes a
    /// few seconds; an hour also outlasts a node that does not reach the API server for a while.
    pub spread: Duration,
}

impl Default for Policy {
    /// Authorities for ten years, certificates for ninety days: a stolen key is of no use for long, and an operator that
    /// is down has a month before anything expires.
    fn default() -> Self {
        Self {
            authority_life: 3650 * DAY,
            leaf_life: 90 * DAY,
            spread: Duration::from_secs(60 * 60),
        }
    }
}
