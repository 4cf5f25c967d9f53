//! YAML → [`Manifest`], bounded and strict: a ModelDeployment as a person writes it, without a cluster.

use crate::request::{DeploymentRequest, check};
use crate::spec::{API_VERSION, KIND, ModelDeploymentSpec};
use crate::strict::Strict;
use crate::violation::Violation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A manifest is a page of text; a larger one is a mistake or an attack.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// One served model, as it is written in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub spec: ModelDeploymentSpec,
}

/// The part of Kubernetes' object metadata that means something outside a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Also the name that clients send as `model`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// Every [`Violation`] there is, in the order of the fields.
    pub fn to_request(&self) -> Result<DeploymentRequest, Vec<Violation>> {
        let mut found = Vec::new();
        if self.api_version != API_VERSION {
            let remedy = format!("write {API_VERSION}");
            found.push(Violation::new("apiVersion", &self.api_version, remedy));
        }
        if self.kind != KIND {
            found.push(Violation::new("kind", &self.kind, format!("write {KIND}")));
        }
        match check(&self.metadata.name, self.metadata.namespace.as_deref(), &self.spec) {
            Ok(request) if found.is_empty() => Ok(request),
            Ok(_) => Err(found),
            Err(more) => {
                found.extend(more);
                Err(found)
            }
        }
    }
}

/// YAML that is no ModelDeployment.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("the manifest has {bytes} bytes; at most {MANIFEST_BYTES_MAX} are read")]
    TooLong { bytes: usize },
    #[error(
        "line {line}, column {column}, {text:?}: {message}; see `boyle up --help` for a manifest to start from"
    )]
    At { line: u64, column: u64, text: String, message: String },
    #[error("{message}; see `boyle up --help` for a manifest to start from")]
    Somewhere { message: String },
}

/// Reads one document. Depth, aliases and size are bounded by the reader's budget.
///
/// # Errors
/// [`ParseError`] with the place and the field.
pub fn parse_yaml(text: &str) -> Result<Manifest, ParseError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ParseError::TooLong { bytes: text.len() });
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |it| {
        Manifest::deserialize(Strict(it))
    });
    read.map_err(|error| {
        let place = error.location().map(|location| (location.line(), location.column()));
        let message = error.without_snippet().to_string();
        match place {
            Some((line, column)) if line > 0 => {
                let (text, message) = (line_text(text, line), plain(&message));
                ParseError::At { line, column, text, message }
            }
            _ => ParseError::Somewhere { message },
        }
    })
}

/// Longest part of a line that an error repeats.
const LINE_CHARACTERS_MAX: usize = 80;

fn line_text(text: &str, line: u64) -> String {
    let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text.lines().nth(index).unwrap_or_default().trim();
    line.chars().take(LINE_CHARACTERS_MAX).collect()
}

/// The reader's messages without what is of use to programmers only.
fn plain(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let message = message.get(..end).unwrap_or(message);
    if message == "invalid u32" {
        return format!("write a whole number from 0 to {}", u32::MAX);
    }
    let (message, _) = message.split_once(", set DuplicateKeyPolicy").unwrap_or((message, ""));
    message.to_owned()
}
