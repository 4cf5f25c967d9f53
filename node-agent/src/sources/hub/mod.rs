//! `hf://`: a hub that speaks Hugging Face's protocol.
//!
//! A revision is resolved to a commit once; all files are read at that commit. Large files live on another host that
//! the hub redirects to, and the token stays with the hub.

mod answers;

use super::{ByteStream, Listing, Remote, RemoteFile, SourceError};
use crate::limits::{
    HUB_ANSWER_BYTES_MAX, HUB_LOCATION_AGE_MAX, SOURCE_CONNECT_TIMEOUT, SOURCE_READ_TIMEOUT,
    SOURCE_REDIRECTS_MAX, SOURCE_REQUESTS_MAX,
};
use answers::{
    Listed, ModelInfo, Repository, Token, content_range, differ, file_of, refusal, tag_of,
    with_weights,
};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The public hub.
pub const PUBLIC_HUB: &str = "https://huggingface.co";

/// One repository.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    endpoint: Url,
    authorization: Option<HeaderValue>,
    repository: Repository,
    /// Where the hub has sent us for a file, and when.
    locations: Mutex<BTreeMap<String, (Url, Instant)>>,
}

/// An answer and the first one on the way to it, which is the hub's own.
struct Followed {
    hub: HeaderMap,
    last: Response,
}

impl Hub {
    /// `id` is `owner/name`.
    ///
    /// # Errors
    /// [`SourceError::Endpoint`] for an endpoint or token that cannot be one.
    pub fn new(
        endpoint: &str,
        id: &str,
        revision: &str,
        token: Option<&str>,
    ) -> Result<Self, SourceError> {
        let refuse = |reason: String| SourceError::Endpoint { endpoint: endpoint.into(), reason };
        let url = Url::parse(endpoint).map_err(|error| refuse(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(refuse("it is no HTTP address".into()));
        }
        let authorization = match token {
            None => None,
            Some(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
                let mut value = value
                    .map_err(|_| refuse("HF_TOKEN has characters that no token has".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        super::choose_tls_provider();
        let client = Client::builder()
            // Redirects are followed by hand: the token must not go to another host.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(SOURCE_CONNECT_TIMEOUT)
            .read_timeout(SOURCE_READ_TIMEOUT)
            .user_agent(concat!("boyle/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| refuse(crate::describe(&error)))?;
        let repository = Repository {
            id: id.to_owned(),
            revision: revision.to_owned(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: if token.is_some() { Token::Given } else { Token::None },
        };
        let locations = Mutex::default();
        Ok(Self { client, endpoint: url, authorization, repository, locations })
    }

    /// `{endpoint}/{parts}`, each part one path segment.
    fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    fn file_url(&self, revision: &str, name: &str) -> Url {
        let id = self.repository.id.split('/');
        self.url(id.chain(["resolve", revision, name]))
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        range: Option<&Range<u64>>,
    ) -> Result<Response, SourceError> {
        let mut request = self.client.request(method.clone(), url.clone());
        let authorization = self.authorization.as_ref();
        if let Some(value) = authorization.filter(|_| url.origin() == self.endpoint.origin()) {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        request.send().await.map_err(|error| broken(url, &error))
    }

    /// Follows redirects. A `HEAD` that already tells the linked file's size is not followed to another host.
    async fn follow(
        &self,
        method: Method,
        url: Url,
        range: Option<Range<u64>>,
    ) -> Result<(Followed, Url), SourceError> {
        let mut at = url;
        let mut hub: Option<HeaderMap> = None;
        for _ in 0..SOURCE_REDIRECTS_MAX {
            let response = self.send(&method, &at, range.as_ref()).await?;
            let first = hub.get_or_insert_with(|| response.headers().clone());
            let told = method == Method::HEAD && first.contains_key("x-linked-size");
            if told || !response.status().is_redirection() {
                return Ok((Followed { hub: first.clone(), last: response }, at));
            }
            let target = answers::text(response.headers(), LOCATION.as_str());
            let target = target.and_then(|target| at.join(target).ok());
            at = target.ok_or_else(|| SourceError::Protocol {
                what: place(&at),
                reason: "a redirect that leads nowhere".into(),
            })?;
        }
        let reason = format!("more than {SOURCE_REDIRECTS_MAX} redirects");
        Err(SourceError::Protocol { what: place(&at), reason })
    }

    async fn head(&self, revision: &str, name: String) -> Result<RemoteFile, SourceError> {
        let (followed, url) =
            self.follow(Method::HEAD, self.file_url(revision, &name), None).await?;
        let status = followed.last.status();
        if !(status.is_success() || status.is_redirection()) {
            return Err(refusal(&self.repository, &name, status, followed.last.headers()));
        }
        let told = file_of(&name, &followed.hub);
        let told = if status.is_redirection() {
            told
        } else {
            file_of(&name, followed.last.headers()).or(told)
        };
        let reason = "it tells no length".to_owned();
        told.ok_or_else(|| SourceError::Protocol { what: place(&url), reason })
    }

    /// Where the file was the last time, if that is not long ago.
    fn location(&self, name: &str) -> Option<Url> {
        let locations = self.locations.lock().unwrap_or_else(PoisonError::into_inner);
        let (url, at) = locations.get(name)?;
        (at.elapsed() < HUB_LOCATION_AGE_MAX).then(|| url.clone())
    }

    fn remember(&self, name: &str, location: Option<Url>) {
        let mut locations = self.locations.lock().unwrap_or_else(PoisonError::into_inner);
        match location {
            Some(url) => locations.insert(name.to_owned(), (url, Instant::now())),
            None => locations.remove(name),
        };
    }

    /// Checks that the hub still means the file that was listed.
    fn check_same(
        &self,
        revision: &str,
        file: &RemoteFile,
        hub: &HeaderMap,
    ) -> Result<(), SourceError> {
        let pairs = [
            (revision, answers::text(hub, "x-repo-commit").map(ToOwned::to_owned)),
            (file.tag.as_str(), tag_of(hub)),
        ];
        for (was, now) in pairs {
            if let Some(now) = now.filter(|now| differ(was, now)) {
                let (file, was) = (file.name.clone(), was.to_owned());
                return Err(SourceError::Changed { file, was, now });
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Remote for Hub {
    async fn list(&self) -> Result<Listing, SourceError> {
        let Repository { id, revision, .. } = &self.repository;
        let parts = ["api", "models"].into_iter().chain(id.split('/'));
        let mut url = self.url(parts.chain(["revision", revision]));
        url.set_query(Some("blobs=true"));
        let what = format!("{id} at {revision}");
        let (followed, url) = self.follow(Method::GET, url, None).await?;
        if !followed.last.status().is_success() {
            let (status, headers) = (followed.last.status(), followed.last.headers());
            return Err(refusal(&self.repository, &what, status, headers));
        }
        let body = bounded(followed.last, &url).await?;
        let info: ModelInfo = serde_json::from_slice(&body).map_err(|error| {
            SourceError::Protocol { what: place(&url), reason: error.to_string() }
        })?;
        let (revision, listed) = info.files();
        let files = futures::stream::iter(listed).map(|listed| async {
            match listed {
                Listed::Known(file) => Ok(file),
                Listed::Named(name) => self.head(&revision, name).await,
            }
        });
        let files = files.buffered(SOURCE_REQUESTS_MAX).try_collect().await?;
        with_weights(&what, Listing { revision, files })
    }

    async fn read(
        &self,
        revision: &str,
        file: &RemoteFile,
        range: Range<u64>,
    ) -> Result<ByteStream, SourceError> {
        let hub = self.file_url(revision, &file.name);
        let known = self.location(&file.name);
        let from = known.clone().unwrap_or_else(|| hub.clone());
        let (followed, at) = self.follow(Method::GET, from, Some(range.clone())).await?;
        if known.is_none() {
            self.check_same(revision, file, &followed.hub)?;
        }
        let status = followed.last.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            let now = "shorter".to_owned();
            let was = format!("{} bytes", file.bytes);
            return Err(SourceError::Changed { file: file.name.clone(), was, now });
        }
        if !status.is_success() {
            let elsewhere = at.origin() != self.endpoint.origin();
            self.remember(&file.name, None);
            // The address that the hub gave may have expired; the hub gives a new one.
            let reason = format!("{status} at {}", place(&at));
            return Err(match known {
                Some(_) if elsewhere => SourceError::Transient { what: file.name.clone(), reason },
                Some(_) | None => {
                    refusal(&self.repository, &file.name, status, followed.last.headers())
                }
            });
        }
        check_range(file, &range, &followed.last, &at)?;
        if at != hub {
            self.remember(&file.name, Some(at.clone()));
        }
        let stream = followed.last.bytes_stream();
        Ok(Box::pin(stream.map_err(move |error| broken(&at, &error))))
    }
}

/// Checks that the answer is about these bytes of a file of this length.
fn check_range(
    file: &RemoteFile,
    range: &Range<u64>,
    response: &Response,
    at: &Url,
) -> Result<(), SourceError> {
    let total = if response.status() == StatusCode::PARTIAL_CONTENT {
        let (first, total) = content_range(response.headers()).unwrap_or((u64::MAX, 0));
        if first != range.start {
            let reason = format!("asked for bytes from {} on, it gives others", range.start);
            return Err(SourceError::Protocol { what: place(at), reason });
        }
        total
    } else if *range == (0..file.bytes) {
        response.content_length().unwrap_or(file.bytes)
    } else {
        let reason = "it gives whole files only, and parts are needed".to_owned();
        return Err(SourceError::Protocol { what: place(at), reason });
    };
    if total == file.bytes {
        return Ok(());
    }
    let (was, now) = (format!("{} bytes", file.bytes), format!("{total} bytes"));
    Err(SourceError::Changed { file: file.name.clone(), was, now })
}

async fn bounded(response: Response, url: &Url) -> Result<Vec<u8>, SourceError> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| broken(url, &error))?);
        if body.len() > HUB_ANSWER_BYTES_MAX {
            let reason = format!("an answer of more than {HUB_ANSWER_BYTES_MAX} bytes");
            return Err(SourceError::Protocol { what: place(url), reason });
        }
    }
    Ok(body)
}

/// A request that did not come through, or an answer that broke off.
fn broken(url: &Url, error: &reqwest::Error) -> SourceError {
    let reason = match std::error::Error::source(error) {
        Some(cause) => crate::describe(cause),
        None => error.to_string(),
    };
    SourceError::Transient { what: place(url), reason }
}

/// An address for messages: a query may hold a signature.
fn place(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.to_string()
}
