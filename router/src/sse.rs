//! Server-sent events: the bytes, and the comments that keep a waiting connection open.
//!
//! The body is pulled: nothing is made until the client's connection takes more, so that a slow reader holds up its
//! home through the stream's flow-control window and no queue grows here.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, unfold};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// Data of the last event of a stream that went well.
pub const DONE: &str = "[DONE]";
/// A comment, as DeepSeek's own API sends it.
const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// One event with a single line of data.
pub fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// A response that streams these texts, with a comment whenever none comes for `keep_alive`.
pub fn response(texts: BoxStream<'static, String>, keep_alive: Duration) -> Response {
    let body = unfold(texts, move |mut texts| async move {
        loop {
            let bytes = match timeout(keep_alive, texts.next()).await {
                Err(_) => Bytes::from_static(KEEP_ALIVE.as_bytes()),
                Ok(Some(text)) if text.is_empty() => continue,
                Ok(Some(text)) => Bytes::from(text),
                Ok(None) => return None,
            };
            return Some((Ok::<_, Infallible>(bytes), texts));
        }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Proxies of the nginx kind would collect the stream otherwise.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(body)).into_response()
}
