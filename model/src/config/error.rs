//! Why a configuration is refused; each names the field, its value and what to write instead.

use std::io;
use std::path::PathBuf;

/// A `config.json` or `generation_config.json` that Boyle cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file} cannot be read: point to a folder with the model's config.json")]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{file} has more than the {limit} bytes allowed: it is not a model configuration")]
    TooLarge { file: &'static str, limit: u64 },
    #[error("{file} is not valid JSON: fetch it again")]
    NotJson {
        file: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("{file} must hold one JSON object with the model's fields")]
    NotObject { file: &'static str },
    #[error("{field} is missing: write {expected}")]
    Missing { field: String, expected: String },
    #[error("{field} is {value}: it must be {expected}")]
    Invalid { field: String, value: String, expected: String },
    #[error("{field} is {value}, which this version does not run: accepted is {accepted}")]
    Unsupported { field: String, value: String, accepted: &'static str },
    #[error(
        "model_type is {model_type:?} but architectures is {architecture:?}, which goes with {expected:?}: correct one of them"
    )]
    Mismatch { model_type: String, architecture: &'static str, expected: &'static str },
}
