//! A typed object → the bytes to apply and the hash that tells whether it changed. Pure.

use crate::key::HASH_ANNOTATION;
use crate::watch::Kind;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of the digest that are kept: sixteen hex digits, so that no two wishes look alike.
const HASH_BYTES: usize = 8;

/// An object that cannot be written as JSON; a fault of ours.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    #[error("write a {kind:?} as JSON")]
    Json {
        kind: Kind,
        #[source]
        source: serde_json::Error,
    },
    #[error("a {kind:?} was rendered without metadata.name")]
    Nameless { kind: Kind },
}

/// One object as it should be.
#[derive(Clone, Debug)]
pub struct Desired {
    pub kind: Kind,
    pub name: String,
    pub body: Value,
    pub hash: String,
}

impl Desired {
    /// # Errors
    /// [`DesiredError`]; only a fault of ours makes one.
    pub fn new<K: Serialize>(kind: Kind, object: &K) -> Result<Self, DesiredError> {
        let body = serde_json::to_value(object);
        let mut body = body.map_err(|source| DesiredError::Json { kind, source })?;
        let digest = Sha256::digest(body.to_string().as_bytes());
        let hash: String = digest.iter().take(HASH_BYTES).map(|it| format!("{it:02x}")).collect();
        let metadata = body.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.ok_or(DesiredError::Nameless { kind })?;
        let name = metadata.get("name").and_then(Value::as_str).map(str::to_owned);
        let name = name.ok_or(DesiredError::Nameless { kind })?;
        let annotations =
            metadata.entry("annotations").or_insert_with(|| Value::Object(<_>::default()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(HASH_ANNOTATION.to_owned(), Value::from(hash.clone()));
        }
        Ok(Self { kind, name, body, hash })
    }
}
