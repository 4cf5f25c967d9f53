//! `BOYLE_MODEL_SOURCE`, taken apart.

use std::path::PathBuf;

/// A model source as this agent meets it: the cluster has mounted volumes already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceUri {
    /// `hf://owner/name`
    HuggingFace { owner: String, name: String },
    /// `s3://bucket/path`
    S3 { bucket: String, path: String },
    /// `pvc://claim/path`: `path` below the mount.
    Claim { path: PathBuf },
    /// `oci://reference`: the mount itself.
    Image,
    /// `file:///folder`
    File { directory: PathBuf },
    /// `embedded://name`
    Embedded { name: String },
}

/// Text that is no model source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "model source {text:?} cannot be used; write {}", form.unwrap_or("hf://owner/name, s3://bucket/path, pvc://claim/path, oci://reference, file:///folder or embedded://name")
)]
pub struct UriError {
    pub text: String,
    /// What to write, when the scheme is known.
    pub form: Option<&'static str>,
}

impl SourceUri {
    /// Takes a source apart.
    ///
    /// # Errors
    /// [`UriError`], which says what to write.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let refuse = |form| UriError { text: text.to_owned(), form };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse(None))?;
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (first, path) = (first.to_owned(), path.trim_end_matches('/').to_owned());
        // `..` would leave the folder or the bucket's folder that a person was allowed to name.
        let plain =
            !rest.split('/').any(|part| part == "..") && !rest.chars().any(char::is_control);
        let (whole, source, form) = match scheme {
            "hf" => (
                !first.is_empty() && !path.is_empty() && !path.contains('/'),
                Self::HuggingFace { owner: first, name: path },
                "hf://owner/name",
            ),
            "s3" => (
                !first.is_empty() && !path.is_empty(),
                Self::S3 { bucket: first, path },
                "s3://bucket/path",
            ),
            "pvc" => (
                !first.is_empty(),
                Self::Claim { path: path.trim_start_matches('/').into() },
                "pvc://claim/path/in/it",
            ),
            "oci" => {
                (!first.is_empty() && !path.is_empty(), Self::Image, "oci://registry/name:tag")
            }
            "file" => (
                rest.starts_with('/'),
                Self::File { directory: rest.into() },
                "file:///absolute/folder",
            ),
            "embedded" => (
                !first.is_empty() && path.is_empty(),
                Self::Embedded { name: first },
                "embedded://name",
            ),
            _ => return Err(refuse(None)),
        };
        if whole && plain { Ok(source) } else { Err(refuse(Some(form))) }
    }
}

#[cfg(test)]
mod tests {
    use super::SourceUri;

    #[test]
    fn sources_are_taken_apart() {
        let hub = SourceUri::HuggingFace { owner: "deepseek-ai".into(), name: "R1".into() };
        let table = [
            ("hf://deepseek-ai/R1", hub),
            ("s3://b/a/c/", SourceUri::S3 { bucket: "b".into(), path: "a/c".into() }),
            ("pvc://claim", SourceUri::Claim { path: "".into() }),
            ("pvc://claim/a/c", SourceUri::Claim { path: "a/c".into() }),
            ("oci://host:5000/a/c:tag", SourceUri::Image),
            ("file:///a/c", SourceUri::File { directory: "/a/c".into() }),
            ("embedded://tiny-r1", SourceUri::Embedded { name: "tiny-r1".into() }),
        ];
        for (text, expected) in table {
            assert_eq!(SourceUri::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_what_to_write() {
        let table = [
            ("tiny-r1", "embedded://name"),
            ("ftp://a/b", "s3://bucket/path"),
            ("hf://owner", "hf://owner/name"),
            ("hf://owner/name/more", "hf://owner/name"),
            ("s3://bucket", "s3://bucket/path"),
            ("file://relative", "file:///absolute/folder"),
            ("pvc://claim/../other", "pvc://claim/path/in/it"),
            ("embedded://a/b", "embedded://name"),
        ];
        for (text, form) in table {
            let error = SourceUri::parse(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(form), "{error}");
        }
    }
}
