//! OpenAI JSON → a valid request, once, at the edge.
//!
//! Nothing after this module meets an optional field that is required, an unknown type or a number out of range.
//! It knows no home, no model and no HTTP.

mod chat;
mod completions;
mod fields;
mod options;
mod unsupported;

pub use chat::{MESSAGES_MAX, ReasoningText, ValidChat, chat};
pub use completions::{PROMPTS_MAX, ValidCompletion, ValidPrompt, completion};
pub use fields::quote;
pub use options::{
    CHOICES_MAX, Delivery, LOGIT_BIAS_MAX, Options, STOP_STRINGS_MAX, STOP_TOKEN_IDS_MAX,
    UsageChunk,
};

use serde_json::{Map, Value};

/// Why a body is no valid request. Display is what the client reads; it never repeats long input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the body is not valid JSON: {reason}")]
    Json { reason: String },
    #[error("the body must be a JSON object, not {found}")]
    Body { found: String },
    #[error("`{param}` is required: {remedy}")]
    Missing { param: String, remedy: &'static str },
    #[error("`{param}` must be {expected}, not {found}")]
    WrongType { param: String, expected: String, found: String },
    #[error("`{param}` is {value}; it must be {allowed}")]
    OutOfRange { param: String, value: String, allowed: String },
    #[error("`{param}` has {count} entries; at most {max} are allowed")]
    TooMany { param: String, count: usize, max: usize },
    #[error("`{param}` is not supported here: {remedy}")]
    Unsupported { param: String, remedy: &'static str },
    #[error("`{param}` {problem}")]
    Conflict { param: String, problem: String },
}

impl ParseError {
    /// The request's field that is wrong, as OpenAI names it.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Json { .. } | Self::Body { .. } => None,
            Self::Missing { param, .. }
            | Self::WrongType { param, .. }
            | Self::OutOfRange { param, .. }
            | Self::TooMany { param, .. }
            | Self::Unsupported { param, .. }
            | Self::Conflict { param, .. } => Some(param),
        }
    }

    /// A code that programs can match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json { .. } | Self::Body { .. } => "invalid_json",
            Self::Missing { .. } => "missing_required_parameter",
            Self::WrongType { .. } => "invalid_type",
            Self::OutOfRange { .. } | Self::Conflict { .. } => "invalid_value",
            Self::TooMany { .. } => "array_above_max_length",
            Self::Unsupported { .. } => "unsupported_parameter",
        }
    }
}

/// The body's top-level object.
fn object(body: &[u8]) -> Result<Map<String, Value>, ParseError> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(ParseError::Body { found: fields::describe(&other) }),
        Err(error) => Err(ParseError::Json { reason: error.to_string() }),
    }
}
