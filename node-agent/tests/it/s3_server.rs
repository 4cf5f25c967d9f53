//! As much of S3 as reading takes: one bucket, listings below a prefix, ranges, ETags, and one access key.

use axum::Router;
use axum::extract::{Path as UrlPath, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;

struct Bucket {
    name: String,
    objects: BTreeMap<String, Vec<u8>>,
}

/// Serves a folder's files below `prefix` to whoever signs as `test`, and returns the endpoint.
pub async fn start(directory: &Path, bucket: &str, prefix: &str) -> String {
    let objects = std::fs::read_dir(directory).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Some((format!("{prefix}/{name}"), std::fs::read(path).ok()?))
    });
    let state = Arc::new(Bucket { name: bucket.to_owned(), objects: objects.collect() });
    let routes = Router::new()
        .route("/{bucket}", get(list))
        .route("/{bucket}/{*key}", get(read))
        .with_state(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    endpoint
}

fn fault(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

fn refuse(bucket: &Bucket, name: &str, headers: &HeaderMap) -> Option<Response> {
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_known = signed.is_some_and(|it| it.starts_with("AWS4-HMAC-SHA256 Credential=test/"));
    match (is_known, name == bucket.name) {
        (false, _) => Some(fault(403, "InvalidAccessKeyId")),
        (true, false) => Some(fault(404, "NoSuchBucket")),
        (true, true) => None,
    }
}

fn tag(content: &[u8]) -> String {
    let digest: String =
        Sha256::digest(content).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digest}\"")
}

async fn list(
    State(bucket): State<Arc<Bucket>>,
    UrlPath(name): UrlPath<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse(&bucket, &name, &headers) {
        return refusal;
    }
    let query = format!("http://s3/?{}", query.unwrap_or_default());
    let query: BTreeMap<String, String> =
        reqwest::Url::parse(&query).unwrap().query_pairs().into_owned().collect();
    assert_eq!(query.get("list-type").map(String::as_str), Some("2"));
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let found = bucket.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
    let contents: String = found
        .map(|(key, content)| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
                 <ETag>{}</ETag><Size>{}</Size></Contents>",
                tag(content).replace('"', "&quot;"),
                content.len()
            )
        })
        .collect();
    let body = format!(
        "<ListBucketResult><Name>{name}</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    );
    ([(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

async fn read(
    State(bucket): State<Arc<Bucket>>,
    UrlPath((name, key)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse(&bucket, &name, &headers) {
        return refusal;
    }
    let Some(content) = bucket.objects.get(&key) else { return fault(404, "NoSuchKey") };
    let tag = tag(content);
    if headers.get(header::IF_MATCH).is_some_and(|it| it.to_str().unwrap() != tag) {
        return fault(412, "PreconditionFailed");
    }
    let range = headers[header::RANGE].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let part = content[first..=last.min(content.len() - 1)].to_vec();
    let told = [
        (header::ETAG, tag),
        (header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", content.len())),
        (header::LAST_MODIFIED, "Fri, 02 Jan 2026 03:04:05 GMT".to_owned()),
    ];
    (StatusCode::PARTIAL_CONTENT, told, part).into_response()
}
