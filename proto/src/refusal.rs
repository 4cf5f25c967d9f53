//! Metadata of a refused `Generate` call, so that a router can answer in its own API's error shape without reading
//! messages.

/// Metadata key: one of the codes below.
pub const ERROR_CODE: &str = "boyle-error-code";
/// Metadata key: the OpenAI request field that is at fault, when there is one.
pub const ERROR_PARAM: &str = "boyle-error-param";

/// The prompt does not fit the context; the message holds both numbers.
pub const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";
/// The request can never work; the message says what to change.
pub const INVALID_REQUEST: &str = "invalid_request";
