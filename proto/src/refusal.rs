//! Metadata of refused calls, so that nobody reads messages: a router answers in its own API's error shape, and an
//! operator knows what a restart would mend.

/// Metadata key: one of the codes below.
pub const ERROR_CODE: &str = "boyle-error-code";
/// Metadata key: the OpenAI request field that is at fault, when there is one.
pub const ERROR_PARAM: &str = "boyle-error-param";

/// Metadata key of a refused `Assign` call.
pub const ASSIGN_REFUSAL: &str = "boyle-assign-refusal";
/// Its value when the assignment is recorded and takes effect once the process is restarted.
pub const NEEDS_RESTART: &str = "needs-restart";
/// Its value when the agent has other files than the plan was made for, or none yet.
pub const WRONG_MODEL: &str = "wrong-model";

/// The prompt does not fit the context; the message holds both numbers.
pub const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";
/// The request can never work; the message says what to change.
pub const INVALID_REQUEST: &str = "invalid_request";
