//! A hub as an agent meets it: a model's description, addresses that redirect to another host, ranges, and troubles.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub const REPOSITORY: &str = "boyle/tiny";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Bytes that the server hands to the network at once.
const CHUNK: usize = 64 << 10;

/// What the next request for weights meets.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    Status(u16),
    /// The connection breaks after so many bytes.
    Cut(usize),
}

/// Both hosts, and what they have seen.
#[derive(Debug)]
pub struct Hub {
    pub endpoint: String,
    cdn: String,
    pub files: Mutex<BTreeMap<String, Bytes>>,
    /// Digests that the hub tells, when they are not the content's.
    pub told_digest: Mutex<BTreeMap<String, String>>,
    pub token: Option<String>,
    pub troubles: Mutex<VecDeque<Trouble>>,
    /// Of weights, on the wire.
    pub weight_bytes: AtomicU64,
    pub tokens_at_cdn: AtomicU64,
    pub listings: AtomicU64,
    /// Streams stand still once this many bytes of weights went out.
    pub gate: watch::Sender<u64>,
}

impl Hub {
    /// Serves the files of a folder.
    pub async fn start(directory: &Path, token: Option<&str>) -> Arc<Self> {
        let (hub, cdn) = (listener().await, listener().await);
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let files = std::fs::read_dir(directory).unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            Some((name, Bytes::from(std::fs::read(path).ok()?)))
        });
        let state = Arc::new(Self {
            endpoint: address(&hub),
            cdn: address(&cdn),
            files: Mutex::new(files.collect()),
            told_digest: Mutex::default(),
            token: token.map(ToOwned::to_owned),
            troubles: Mutex::default(),
            weight_bytes: AtomicU64::new(0),
            tokens_at_cdn: AtomicU64::new(0),
            listings: AtomicU64::new(0),
            gate: watch::Sender::new(u64::MAX),
        });
        let hub_routes = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(describe))
            .route("/{owner}/{name}/resolve/{revision}/{file}", get(resolve))
            .with_state(Arc::clone(&state));
        let cdn_routes =
            Router::new().route("/{file}", get(weights)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(hub, hub_routes).await });
        tokio::spawn(async move { axum::serve(cdn, cdn_routes).await });
        state
    }

    pub fn served(&self) -> u64 {
        self.weight_bytes.load(Ordering::SeqCst)
    }

    pub fn length(&self, name: &str) -> u64 {
        self.files.lock().unwrap()[name].len() as u64
    }

    fn file(&self, name: &str) -> Option<Bytes> {
        self.files.lock().unwrap().get(name).cloned()
    }

    fn digest(&self, name: &str) -> String {
        let told = self.told_digest.lock().unwrap().get(name).cloned();
        told.unwrap_or_else(|| hex(&Sha256::digest(self.file(name).unwrap())))
    }

    fn refuses(&self, headers: &HeaderMap) -> Option<Response> {
        let token = self.token.as_ref()?;
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match given {
            Some(given) if given == format!("Bearer {token}") => None,
            Some(_) => {
                Some((StatusCode::FORBIDDEN, [("x-error-code", "GatedRepo")]).into_response())
            }
            None => Some(StatusCode::UNAUTHORIZED.into_response()),
        }
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

async fn describe(
    State(hub): State<Arc<Hub>>,
    UrlPath((owner, name, revision)): UrlPath<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    hub.listings.fetch_add(1, Ordering::SeqCst);
    if let Some(refusal) = hub.refuses(&headers) {
        return refusal;
    }
    if format!("{owner}/{name}") != REPOSITORY {
        return (StatusCode::NOT_FOUND, [("x-error-code", "RepoNotFound")]).into_response();
    }
    if revision != "main" {
        return (StatusCode::NOT_FOUND, [("x-error-code", "RevisionNotFound")]).into_response();
    }
    let names: Vec<String> = hub.files.lock().unwrap().keys().cloned().collect();
    let siblings = names.into_iter().map(|name| {
        // Only large files are told of here; the others answer for themselves.
        if is_large(&name) {
            let (size, digest) = (hub.length(&name), hub.digest(&name));
            serde_json::json!({"rfilename": name, "lfs": {"size": size, "sha256": digest}})
        } else {
            serde_json::json!({"rfilename": name})
        }
    });
    let siblings: Vec<_> = siblings.collect();
    axum::Json(serde_json::json!({"sha": COMMIT, "siblings": siblings})).into_response()
}

async fn resolve(
    State(hub): State<Arc<Hub>>,
    UrlPath((_, _, revision, name)): UrlPath<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = hub.refuses(&headers) {
        return refusal;
    }
    assert_eq!(revision, COMMIT, "files are read at the commit");
    let Some(content) = hub.file(&name) else {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound")]).into_response();
    };
    if !is_large(&name) {
        let tag = [(header::ETAG, format!("\"{}\"", &hub.digest(&name)[..40]))];
        if method == Method::HEAD {
            let length = [(header::CONTENT_LENGTH, content.len().to_string())];
            return (tag, length, Body::empty()).into_response();
        }
        let range = range(&headers, content.len());
        return (tag, part(&content, range)).into_response();
    }
    let told = [
        (header::LOCATION, format!("{}/{name}?signature=secret", hub.cdn)),
        (header::HeaderName::from_static("x-linked-size"), content.len().to_string()),
        (header::HeaderName::from_static("x-linked-etag"), format!("\"{}\"", hub.digest(&name))),
        (header::HeaderName::from_static("x-repo-commit"), COMMIT.to_owned()),
    ];
    (StatusCode::FOUND, told).into_response()
}

async fn weights(
    State(hub): State<Arc<Hub>>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    if headers.contains_key(header::AUTHORIZATION) {
        hub.tokens_at_cdn.fetch_add(1, Ordering::SeqCst);
    }
    let trouble = hub.troubles.lock().unwrap().pop_front();
    let cut = match trouble {
        Some(Trouble::Status(status)) => {
            return StatusCode::from_u16(status).unwrap().into_response();
        }
        Some(Trouble::Cut(bytes)) => bytes,
        None => usize::MAX,
    };
    let content = hub.file(&name).unwrap();
    let range = range(&headers, content.len());
    let (status, head, body) = part(&content, range);
    (status, head, Body::from_stream(stream(hub, body, cut))).into_response()
}

fn stream(
    hub: Arc<Hub>,
    content: Bytes,
    cut: usize,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::unfold(0, move |at| {
        let (hub, content) = (Arc::clone(&hub), content.clone());
        async move {
            if at >= content.len() {
                return None;
            }
            if at >= cut {
                return Some((Err(std::io::Error::other("cut")), content.len()));
            }
            let mut gate = hub.gate.subscribe();
            gate.wait_for(|gate| hub.served() < *gate).await.unwrap();
            let end = content.len().min(at + CHUNK).min(cut);
            hub.weight_bytes.fetch_add((end - at) as u64, Ordering::SeqCst);
            Some((Ok(content.slice(at..end)), end))
        }
    })
}

/// `bytes=FIRST-LAST`, which the agent always sends.
fn range(headers: &HeaderMap, length: usize) -> Range<usize> {
    let value = headers[header::RANGE].to_str().unwrap();
    let (first, last) = value.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    first.parse().unwrap()..length.min(last.parse::<usize>().unwrap() + 1)
}

type Part = (StatusCode, [(header::HeaderName, String); 2], Bytes);

fn part(content: &Bytes, range: Range<usize>) -> Part {
    let length = content.len();
    let told = [
        (header::CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1)),
        (header::CONTENT_LENGTH, range.len().to_string()),
    ];
    (StatusCode::PARTIAL_CONTENT, told, content.slice(range))
}
