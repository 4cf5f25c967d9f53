//! What every remote source can do.

use super::SourceError;
use crate::fingerprint::TEXT_FILES;
use bytes::Bytes;
use futures::Stream;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::ops::Range;
use std::pin::Pin;

/// A file at the source, as it was when it was listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    pub name: String,
    pub bytes: u64,
    /// Changes when the content does; empty when the source has no such thing.
    pub tag: String,
    /// Of the whole content, in hexadecimal digits.
    pub sha256: Option<String>,
}

/// A model's files at the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What the source resolved to: a commit, a digest; empty when it has none.
    pub revision: String,
    pub files: Vec<RemoteFile>,
}

/// Content as it arrives.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, SourceError>> + Send>>;

/// A place that files are fetched from.
#[tonic::async_trait]
pub trait Remote: Debug + Send + Sync {
    /// The files of the model, of those that [`is_wanted`] names.
    async fn list(&self) -> Result<Listing, SourceError>;

    /// Bytes `range` of a file; `revision` is the listing's. The stream may break at any point.
    async fn read(
        &self,
        revision: &str,
        file: &RemoteFile,
        range: Range<u64>,
    ) -> Result<ByteStream, SourceError>;
}

/// Whether a file of this name can be of use: text beside the weights, the index, and safetensors in the same folder.
pub fn is_wanted(name: &str) -> bool {
    let plain = !name.contains(['/', '\\', '\0']) && !name.contains("..");
    let weights = name.ends_with(".safetensors") || name == "model.safetensors.index.json";
    plain && (weights || TEXT_FILES.contains(&name))
}
