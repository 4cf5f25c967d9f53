//! Where a model's files come from. Knows nothing of plans, engines, peers, nor of the local folder.

mod error;
mod hub;
mod remote;
mod s3;
mod uri;

pub use error::SourceError;
pub use hub::{Hub, PUBLIC_HUB};
pub use remote::{ByteStream, Listing, Remote, RemoteFile, is_wanted};
pub use s3::Bucket;
pub use uri::{SourceUri, UriError};

/// HTTP clients take the process's TLS provider; somebody may have set it already.
pub fn choose_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
