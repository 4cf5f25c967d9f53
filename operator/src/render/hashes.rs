//! Which agents belong together, and which of them run with yesterday's wishes.
//!
//! Both hashes read what a person wrote and never a rendered object, so that an operator upgrade, which renders
//! differently, restarts nothing.

use super::Target;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt;

/// Bytes of a digest that are kept: eight hex digits, enough to tell the few models of one deployment apart.
const HASH_BYTES: usize = 4;

/// The agents of one model. A changed model makes a second group beside the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(String);

/// Everything that an agent reads once, at its start. Agents with another revision are to be restarted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(String);

impl Group {
    /// Of a deployment's wanted model.
    pub fn of(target: &Target) -> Self {
        let request = &target.request;
        let model =
            serde_json::json!([request.source.to_string(), request.revision, request.precision]);
        Self(hash(&model))
    }

    /// As an object's label has it; the operator finds its groups again by their labels.
    pub fn from_label(label: impl Into<String>) -> Self {
        Self(label.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Revision {
    /// Of a deployment's wishes as they are now.
    pub fn of(target: &Target) -> Self {
        let mut wishes = Map::new();
        let mut wish = |name: &str, value: Option<Value>| {
            // A wish that nobody has must leave no trace: later versions know more of them.
            if let Some(value) = value.filter(|value| !is_empty(value)) {
                wishes.insert(name.to_owned(), value);
            }
        };
        let request = &target.request;
        wish("image", Some(Value::from(target.image.clone())));
        wish("accelerator", request.accelerator.as_ref().map(|it| serde_json::json!(it)));
        wish("contextLength", request.context_length.map(|it| Value::from(it.get())));
        wish("secretName", target.secret_name.clone().map(Value::from));
        wish("endpoint", target.endpoint.clone().map(Value::from));
        wish("resources", target.pods.resources_as_written());
        wish("template", target.pods.template_as_written());
        Self(hash(&Value::Object(wishes)))
    }

    /// As a pod's annotation has it.
    pub fn from_annotation(annotation: impl Into<String>) -> Self {
        Self(annotation.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn hash(value: &Value) -> String {
    let digest = Sha256::digest(sorted(value).to_string().as_bytes());
    digest.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// The same value with its keys in order: an API server may return them in another one.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            let pairs =
                keys.into_iter().filter_map(|key| Some((key.clone(), sorted(fields.get(key)?))));
            Value::Object(pairs.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
