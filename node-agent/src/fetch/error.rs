//! Why files are not on this machine.

use crate::sources::SourceError;
use std::io;
use std::path::PathBuf;

/// A fetch that did not come to its end. What has arrived stays and is not fetched again.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is too small: {needed} bytes of the model are still to be fetched and {available} are available; give the agents' volume at least {} bytes more", path.display(), needed.saturating_sub(*available)
    )]
    StorageFull { path: PathBuf, needed: u64, available: u64 },
    #[error(
        "{file} has digest {found} and the source says {expected}: it was damaged on its way and is fetched again"
    )]
    Corrupt { file: String, expected: String, found: String },
    #[error("the source has no file {file}, which {named_by} names; complete the source")]
    Missing { file: String, named_by: &'static str },
    #[error("{file} has {bytes} bytes, more than the {max} that such a file may have")]
    TooLarge { file: String, bytes: u64, max: u64 },
    #[error("another agent took newer files into {}; restart this one to use them", path.display())]
    TakenOver { path: PathBuf },
    #[error("{file} does not answer any more ({attempts} attempts without a byte)")]
    Exhausted {
        file: String,
        attempts: u32,
        #[source]
        source: SourceError,
    },
    #[error("the thread that writes the files stopped: {reason}")]
    Stopped { reason: String },
}

impl FetchError {
    /// Whether the files at the source are the trouble, or other ones than before.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Source(source) | Self::Exhausted { source, .. } => source.is_about_content(),
            Self::Missing { .. } | Self::TooLarge { .. } | Self::TakenOver { .. } => true,
            Self::File { .. }
            | Self::StorageFull { .. }
            | Self::Corrupt { .. }
            | Self::Stopped { .. } => false,
        }
    }
}

/// Names a file in an error.
pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.into();
    |source| FetchError::File { path, source }
}
