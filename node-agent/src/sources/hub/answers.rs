//! What a hub's answers mean. Pure: status codes, headers and JSON in, values out.

use crate::sources::{Listing, RemoteFile, SourceError, is_wanted};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

/// A repository at a revision, for messages.
#[derive(Clone, Debug)]
pub struct Repository {
    /// `owner/name`
    pub id: String,
    pub revision: String,
    pub endpoint: String,
    pub token: Token,
}

/// Whether requests carry a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Given,
    None,
}

/// `api/models/{repo}/revision/{rev}`.
#[derive(Debug, Deserialize)]
pub struct ModelInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Debug, Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

/// A file of the listing, and whether everything is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    Known(RemoteFile),
    /// Only its name: a `HEAD` request tells the rest.
    Named(String),
}

impl ModelInfo {
    /// The commit, and the files that can be of use.
    pub fn files(self) -> (String, Vec<Listed>) {
        let wanted = self.siblings.into_iter().filter(|sibling| is_wanted(&sibling.rfilename));
        let files = wanted.map(|sibling| {
            let Sibling { rfilename: name, size, blob_id, lfs } = sibling;
            let sha256 = lfs.as_ref().and_then(|lfs| lfs.sha256.clone());
            let bytes = lfs.and_then(|lfs| lfs.size).or(size);
            match (bytes, sha256.clone().or(blob_id)) {
                (Some(bytes), Some(tag)) => Listed::Known(RemoteFile { name, bytes, tag, sha256 }),
                (_, _) => Listed::Named(name),
            }
        });
        (self.sha, files.collect())
    }
}

/// A listing with weights in it.
///
/// # Errors
/// [`SourceError::NoWeights`].
pub fn with_weights(what: &str, listing: Listing) -> Result<Listing, SourceError> {
    let weights = |file: &RemoteFile| file.name.ends_with(".safetensors");
    if listing.files.iter().any(weights) {
        return Ok(listing);
    }
    Err(SourceError::NoWeights { what: what.to_owned() })
}

/// A file, from the headers of its `resolve` answer; those about the linked file come first, because the others may
/// be about a redirect.
pub fn file_of(name: &str, headers: &HeaderMap) -> Option<RemoteFile> {
    let bytes = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"))?;
    let tag = tag_of(headers).unwrap_or_default();
    let sha256 = is_sha256(&tag).then(|| tag.clone());
    Some(RemoteFile { name: name.to_owned(), bytes: bytes.parse().ok()?, tag, sha256 })
}

/// The content's tag, without quotes.
pub fn tag_of(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"))?;
    Some(tag.trim_start_matches("W/").trim_matches('"').to_owned())
}

/// Whether two tags are of one kind and of different contents.
pub fn differ(was: &str, now: &str) -> bool {
    was.len() == now.len() && was != now
}

fn is_sha256(tag: &str) -> bool {
    tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A header as text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Why an answer is none; `what` is the file or the repository.
pub fn refusal(
    repository: &Repository,
    what: &str,
    status: StatusCode,
    headers: &HeaderMap,
) -> SourceError {
    let what = what.to_owned();
    let Repository { id, revision, endpoint, token } = repository;
    let code = text(headers, "x-error-code").unwrap_or_default();
    let reason = match text(headers, "x-error-message") {
        Some(message) => format!("{status}, {message}"),
        None => status.to_string(),
    };
    match (status, code, token) {
        (_, "RevisionNotFound", _) => {
            let remedy = format!("{id} has no revision {revision:?}; correct spec.model.revision");
            SourceError::NotFound { what, remedy }
        }
        (StatusCode::UNAUTHORIZED, _, Token::None) => {
            SourceError::NoToken { what, variable: "HF_TOKEN" }
        }
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, "GatedRepo", _) => {
            let remedy = format!("accept the model's terms at {endpoint}/{id} with its account");
            SourceError::Forbidden { what, reason, remedy }
        }
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _, _) => {
            let remedy = format!(
                "give its account access to {id} or correct HF_TOKEN, and restart the agents"
            );
            SourceError::Forbidden { what, reason, remedy }
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE, _, _) => {
            let remedy =
                format!("correct spec.model.source and spec.model.revision ({revision:?})");
            SourceError::NotFound { what, remedy }
        }
        (status, _, _) if is_transient(status) => SourceError::Transient { what, reason },
        (_, _, _) => SourceError::Protocol { what, reason },
    }
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// `bytes FIRST-LAST/TOTAL` → (first, total).
pub fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, total) = text(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests;
