//! Where a model comes from.

use crate::check::text;
use std::fmt;
use std::path::PathBuf;

/// A model source, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// `hf://owner/name`: a repository of a hub that speaks Hugging Face's protocol.
    HuggingFace { owner: String, name: String },
    /// `pvc://claim/path`: a folder in a PersistentVolumeClaim of the same namespace.
    PersistentVolumeClaim { claim: String, path: String },
    /// `s3://bucket/path`.
    S3 { bucket: String, path: String },
    /// `oci://registry/repository:tag`: an image volume.
    Oci { reference: String },
    /// `file:///folder` on the agents' machines.
    File { directory: PathBuf },
    /// `embedded://name`: a model inside the executable.
    Embedded { name: String },
}

/// Text that is no model source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error(
        "{text:?} has no scheme; write hf://, pvc://, s3://, oci://, file:// or embedded:// before it"
    )]
    NoScheme { text: String },
    #[error(
        "scheme {scheme:?} is unknown; write hf://, pvc://, s3://, oci://, file:// or embedded://"
    )]
    UnknownScheme { scheme: String },
    #[error("{text:?} is incomplete; write {form}")]
    Incomplete { text: String, form: &'static str },
}

impl ModelSource {
    /// Takes a source apart.
    ///
    /// # Errors
    /// [`SourceError`] that says what to write.
    pub fn parse(written: &str) -> Result<Self, SourceError> {
        let Some((scheme, rest)) = written.split_once("://") else {
            return Err(SourceError::NoScheme { text: written.to_owned() });
        };
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (first, path) = (first.to_owned(), path.to_owned());
        let (whole, source, form) = match scheme {
            "hf" => (
                text::is_word(&first) && text::is_word(&path),
                Self::HuggingFace { owner: first, name: path },
                "hf://owner/name",
            ),
            "pvc" => (
                text::is_subdomain(&first),
                Self::PersistentVolumeClaim { claim: first, path },
                "pvc://claim/path/in/it",
            ),
            "s3" => (
                text::is_subdomain(&first) && !path.is_empty(),
                Self::S3 { bucket: first, path },
                "s3://bucket/path",
            ),
            "oci" => (
                !path.is_empty() && text::is_image(rest),
                Self::Oci { reference: rest.to_owned() },
                "oci://registry/repository:tag",
            ),
            "file" => (
                rest.starts_with('/'),
                Self::File { directory: PathBuf::from(rest) },
                "file:///absolute/folder",
            ),
            "embedded" => {
                (text::is_word(rest), Self::Embedded { name: first }, "embedded://tiny-r1")
            }
            _ => return Err(SourceError::UnknownScheme { scheme: scheme.to_owned() }),
        };
        // `..` would leave the folder that a person was allowed to name.
        if whole && text::is_plain_path(rest) {
            Ok(source)
        } else {
            Err(SourceError::Incomplete { text: written.to_owned(), form })
        }
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HuggingFace { owner, name } => write!(formatter, "hf://{owner}/{name}"),
            Self::PersistentVolumeClaim { claim, path } => {
                write!(formatter, "pvc://{claim}/{path}")
            }
            Self::S3 { bucket, path } => write!(formatter, "s3://{bucket}/{path}"),
            Self::Oci { reference } => write!(formatter, "oci://{reference}"),
            Self::File { directory } => write!(formatter, "file://{}", directory.display()),
            Self::Embedded { name } => write!(formatter, "embedded://{name}"),
        }
    }
}
