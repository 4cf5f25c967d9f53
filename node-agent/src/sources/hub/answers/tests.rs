use super::{Listed, ModelInfo, Repository, Token, content_range, differ, file_of, refusal};
use crate::sources::{RemoteFile, SourceError};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn a_model_is_its_commit_and_the_files_of_use() {
    let json = r#"{"sha": "c0", "siblings": [
        {"rfilename": "README.md", "size": 1, "blobId": "b0"},
        {"rfilename": "config.json", "size": 5, "blobId": "b1"},
        {"rfilename": "sub/config.json", "size": 5, "blobId": "b1"},
        {"rfilename": "model.safetensors", "size": 9, "blobId": "b2", "lfs": {"sha256": "s2", "size": 9}},
        {"rfilename": "tokenizer.json"}]}"#;
    let info: ModelInfo = serde_json::from_str(json).unwrap();
    let file = |name: &str, bytes, tag: &str, sha256: Option<&str>| {
        let sha256 = sha256.map(ToOwned::to_owned);
        Listed::Known(RemoteFile { name: name.into(), bytes, tag: tag.into(), sha256 })
    };
    let expected = vec![
        file("config.json", 5, "b1", None),
        file("model.safetensors", 9, "s2", Some("s2")),
        Listed::Named("tokenizer.json".into()),
    ];
    assert_eq!(info.files(), ("c0".to_owned(), expected));
}

#[test]
fn headers_of_the_linked_file_count_more() {
    let sha256 = "0f".repeat(32);
    let quoted = format!("\"{sha256}\"");
    let linked = headers(&[
        ("x-linked-size", "70"),
        ("x-linked-etag", &quoted),
        ("content-length", "3"),
        ("etag", "\"r\""),
    ]);
    let file = file_of("f", &linked).unwrap();
    assert_eq!((file.bytes, file.tag.as_str(), file.sha256), (70, &*sha256, Some(sha256.clone())));
    let plain = headers(&[("content-length", "3"), ("etag", "W/\"r\"")]);
    let file = file_of("f", &plain).unwrap();
    assert_eq!((file.bytes, file.tag.as_str(), file.sha256), (3, "r", None));
    assert_eq!(file_of("f", &headers(&[("etag", "\"r\"")])), None);
}

#[test]
fn tags_of_two_kinds_say_nothing() {
    assert!(differ("aa", "ab"));
    assert!(!differ("aa", "aa"));
    assert!(!differ("aa", "aaa"));
}

#[test]
fn content_ranges_are_read() {
    let read = |value: &str| content_range(&headers(&[("content-range", value)]));
    assert_eq!(read("bytes 5-9/70"), Some((5, 70)));
    for broken in ["bytes */70", "bytes 5-9/*", "5-9/70", ""] {
        assert_eq!(read(broken), None, "{broken}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let repository = |token| Repository {
        id: "o/n".into(),
        revision: "main".into(),
        endpoint: "https://hub".into(),
        token,
    };
    let table = [
        (401, "", Token::None, "HF_TOKEN"),
        (401, "RepoNotFound", Token::None, "spec.model.secretName"),
        (403, "GatedRepo", Token::Given, "accept the model's terms at https://hub/o/n"),
        (401, "", Token::Given, "correct HF_TOKEN"),
        (404, "RevisionNotFound", Token::Given, "no revision \"main\""),
        (404, "EntryNotFound", Token::Given, "spec.model.source"),
        (429, "", Token::Given, "429"),
        (503, "", Token::None, "503"),
        (418, "", Token::None, "418"),
    ];
    for (status, code, token, expected) in table {
        let headers = headers(&[("x-error-code", code)]);
        let status = StatusCode::from_u16(status).unwrap();
        let error = refusal(&repository(token), "o/n", status, &headers);
        assert!(error.to_string().contains(expected), "{status} {code}: {error}");
        let transient = matches!(status.as_u16(), 429 | 503);
        assert_eq!(matches!(error, SourceError::Transient { .. }), transient, "{error}");
        assert_eq!(error.is_transient(), transient);
    }
}
