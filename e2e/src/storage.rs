//! A model store for agents that fetch: the embedded model's files as a hub's repository and as an S3 bucket.
//!
//! Just as much of both protocols as reading takes. It listens where pods reach it: on the control plane's address.

use crate::{kube, repository};
use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// The repository's commit; there is one.
pub const COMMIT: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";
/// As `owner/name`, and as the bucket's folder.
pub const REPOSITORY: &str = "boyle/tiny-r1";

/// Name → content.
type Files = Arc<BTreeMap<String, Bytes>>;

/// A running store.
#[derive(Debug)]
pub struct Storage {
    /// `http://HOST:PORT`, for pods.
    pub url: String,
    server: AbortHandle,
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Storage {
    /// # Errors
    /// When the model's files cannot be read, or the address cannot be found or used.
    pub async fn start() -> Result<Self> {
        let files: Files = Arc::new(model_files()?);
        let routes = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(revision))
            .route("/{owner}/{name}/resolve/{commit}/{file}", get(resolve))
            .route("/models", get(list))
            .route("/models/{owner}/{name}/{file}", get(object))
            .with_state(files);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let port = listener.local_addr()?.port();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        let url = format!("http://{}:{port}", own_address().await?);
        Ok(Self { url, server: server.abort_handle() })
    }
}

/// The API server's address: this process stands beside it.
async fn own_address() -> Result<String> {
    let slices = ["get", "endpointslices", "--namespace", "default"];
    let selector = "--selector=kubernetes.io/service-name=kubernetes";
    let list = kube::json(&[&slices[..], &[selector]].concat()).await?;
    let address = list.pointer("/items/0/endpoints/0/addresses/0");
    let address = address.and_then(serde_json::Value::as_str);
    address.map(str::to_owned).context("the API server has no address")
}

/// The files of the embedded model.
///
/// # Errors
/// When they cannot be read.
pub fn model_files() -> Result<BTreeMap<String, Bytes>> {
    let folder = repository().join("models/tiny-r1");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.ends_with(".json") || name.ends_with(".safetensors") {
            files.insert(name, Bytes::from(std::fs::read(&path)?));
        }
    }
    Ok(files)
}

async fn revision(
    State(files): State<Files>,
    Path((owner, name, revision)): Path<(String, String, String)>,
) -> Response {
    if format!("{owner}/{name}") != REPOSITORY || !["main", COMMIT].contains(&revision.as_str()) {
        let code = [("x-error-code", "RevisionNotFound")];
        return (StatusCode::NOT_FOUND, code, "no such revision").into_response();
    }
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, content)| {
            json!({"rfilename": name, "size": content.len(), "blobId": tag(name, content)})
        })
        .collect();
    axum::Json(json!({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings})).into_response()
}

async fn resolve(
    State(files): State<Files>,
    Path((_, _, commit, file)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut response = part(&files, &file, &headers);
    if let Ok(commit) = commit.parse() {
        response.headers_mut().insert("x-repo-commit", commit);
    }
    response
}

async fn object(
    State(files): State<Files>,
    Path((_, _, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    part(&files, &file, &headers)
}

async fn list(State(files): State<Files>, uri: Uri) -> Response {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let prefix = pairs.find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
    let prefix = prefix.replace("%2F", "/");
    let mut body = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>models</Name>\
         <IsTruncated>false</IsTruncated>",
    );
    for (name, content) in files.iter() {
        let key = format!("{REPOSITORY}/{name}");
        if key.starts_with(&prefix) {
            let (size, tag) = (content.len(), tag(name, content));
            // Writing to a String does not fail.
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>\"{tag}\"</ETag><Size>{size}</Size></Contents>"
            );
        }
    }
    body.push_str("</ListBucketResult>");
    ([(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

/// Stands for the content; nobody here checks that it is a hash.
fn tag(name: &str, content: &Bytes) -> String {
    let sum = content.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte) % 251);
    format!("{:040x}", u128::from(sum) + name.len() as u128)
}

/// A file, or the range of it that is asked for.
fn part(files: &Files, file: &str, headers: &HeaderMap) -> Response {
    let Some(content) = files.get(file) else {
        let code = [("x-error-code", "EntryNotFound")];
        return (StatusCode::NOT_FOUND, code, "no such file").into_response();
    };
    let etag = format!("\"{}\"", tag(file, content));
    let fixed = [
        (header::ETAG, etag),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
    ];
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = range.and_then(|range| bounds(range, content.len())) else {
        return (StatusCode::OK, fixed, content.clone()).into_response();
    };
    let shown = format!("bytes {first}-{last}/{}", content.len());
    let range = [(header::CONTENT_RANGE, shown)];
    (StatusCode::PARTIAL_CONTENT, fixed, range, content.slice(first..=last)).into_response()
}

/// `bytes=FIRST-LAST` or `bytes=FIRST-` as inclusive bounds inside the content.
fn bounds(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let end = length.checked_sub(1)?;
    let last = if last.is_empty() { end } else { last.parse::<usize>().ok()?.min(end) };
    (first <= last).then_some((first, last))
}
