//! Where a model's files come from. Knows nothing of plans, engines or peers.

mod uri;

pub use uri::{SourceUri, UriError};
