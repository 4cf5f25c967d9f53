//! Where a model comes from.

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
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(SourceError::NoScheme { text: text.to_owned() });
        };
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (first, path) = (first.to_owned(), path.to_owned());
        let incomplete = |form| SourceError::Incomplete { text: text.to_owned(), form };
        // `..` would leave the folder that a person was allowed to name.
        let plain =
            !rest.split('/').any(|part| part == "..") && !rest.chars().any(char::is_control);
        let (source, form) = match scheme {
            "hf" => {
                let whole = !first.is_empty() && !path.is_empty() && !path.contains('/');
                let source = Self::HuggingFace { owner: first, name: path };
                (whole.then_some(source), "hf://owner/name")
            }
            "pvc" => {
                let whole = !first.is_empty();
                let source = Self::PersistentVolumeClaim { claim: first, path };
                (whole.then_some(source), "pvc://claim/path/in/it")
            }
            "s3" => {
                let whole = !first.is_empty() && !path.is_empty();
                (whole.then_some(Self::S3 { bucket: first, path }), "s3://bucket/path")
            }
            "oci" => {
                let whole = !first.is_empty() && !path.is_empty();
                let source = Self::Oci { reference: rest.to_owned() };
                (whole.then_some(source), "oci://registry/repository:tag")
            }
            "file" => {
                let whole = rest.starts_with('/');
                let source = Self::File { directory: PathBuf::from(rest) };
                (whole.then_some(source), "file:///absolute/folder")
            }
            "embedded" => {
                let whole = !first.is_empty() && path.is_empty();
                (whole.then_some(Self::Embedded { name: first }), "embedded://tiny-r1")
            }
            _ => return Err(SourceError::UnknownScheme { scheme: scheme.to_owned() }),
        };
        source.filter(|_| plain).ok_or_else(|| incomplete(form))
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
