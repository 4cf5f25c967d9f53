//! Everything that a client can be told, and the only place where it becomes HTTP.

use crate::generation::GenerationError;
use crate::parse::ParseError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Seconds after which a refused client may come back: a slot is freed each time a sequence ends.
const RETRY_AFTER_BUSY: HeaderValue = HeaderValue::from_static("1");
/// Seconds after which homes may have been replaced.
const RETRY_AFTER_NO_HOME: HeaderValue = HeaderValue::from_static("5");

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("the model {model} is not served here; served: {served}")]
    ModelNotFound { model: String, served: String },
    #[error("no model is served yet: the router waits for its homes")]
    NoModel,
    #[error(
        "there is no {method} {path}; see /v1/models, /v1/chat/completions and /v1/completions"
    )]
    NotFound { method: String, path: String },
    #[error("{path} does not take {method}")]
    MethodNotAllowed { method: String, path: String },
    #[error("the body is larger than {max} bytes")]
    BodyTooLarge { max: usize },
    #[error("the body did not arrive: {reason}")]
    BodyUnreadable { reason: String },
    #[error("the body did not arrive within {seconds} s")]
    BodyLate { seconds: u64 },
    #[error("the content type is {found}; send application/json")]
    UnsupportedMediaType { found: String },
    #[error("{max} sequences are in flight already; try again later")]
    Overloaded { max: usize },
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error("the answer could not be written: {reason}")]
    Render { reason: String },
}

/// OpenAI's error object; all four keys are always there.
#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorFields<'a> {
    message: String,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl ApiError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Parse(_) | Self::BodyUnreadable { .. } => StatusCode::BAD_REQUEST,
            Self::ModelNotFound { .. } | Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::NoModel => StatusCode::SERVICE_UNAVAILABLE,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyLate { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Render { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Generation(error) => match error {
                GenerationError::Refused { .. } => StatusCode::BAD_REQUEST,
                GenerationError::HomesFull | GenerationError::TooManyHeld { .. } => {
                    StatusCode::TOO_MANY_REQUESTS
                }
                GenerationError::NoHome { .. } => StatusCode::SERVICE_UNAVAILABLE,
                GenerationError::Broken { .. } | GenerationError::Endless { .. } => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            },
        }
    }

    /// The JSON object that clients know, for a response's body or for an event inside a stream.
    pub fn body(&self) -> String {
        let status = self.status();
        let error = ErrorFields {
            message: self.to_string(),
            r#type: match status {
                StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                status if status.is_server_error() => "server_error",
                _ => "invalid_request_error",
            },
            param: self.param(),
            code: self.code(),
        };
        serde_json::to_string(&ErrorBody { error }).unwrap_or_else(|error| {
            tracing::error!(%error, "an error object could not be written");
            String::from(
                r#"{"error":{"message":"internal error","type":"server_error","param":null,"code":null}}"#,
            )
        })
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Parse(error) => error.param(),
            Self::ModelNotFound { .. } => Some("model"),
            Self::Generation(GenerationError::Refused { param, .. }) => param.as_deref(),
            _ => None,
        }
    }

    fn code(&self) -> Option<&str> {
        match self {
            Self::Parse(error) => Some(error.code()),
            Self::ModelNotFound { .. } => Some("model_not_found"),
            Self::NoModel => Some("no_home_available"),
            Self::NotFound { .. } => Some("unknown_url"),
            Self::MethodNotAllowed { .. } => Some("method_not_allowed"),
            Self::BodyTooLarge { .. } => Some("body_too_large"),
            Self::BodyUnreadable { .. } => Some("body_unreadable"),
            Self::BodyLate { .. } => Some("body_late"),
            Self::UnsupportedMediaType { .. } => Some("unsupported_media_type"),
            Self::Overloaded { .. } => Some("rate_limit_exceeded"),
            Self::Render { .. } => Some("internal_error"),
            Self::Generation(error) => match error {
                GenerationError::Refused { code, .. } => code.as_deref(),
                GenerationError::HomesFull | GenerationError::TooManyHeld { .. } => {
                    Some("rate_limit_exceeded")
                }
                GenerationError::NoHome { .. } => Some("no_home_available"),
                GenerationError::Broken { .. } | GenerationError::Endless { .. } => {
                    Some("generation_failed")
                }
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = (status, [json], self.body()).into_response();
        let retry_after = match status {
            StatusCode::TOO_MANY_REQUESTS => Some(RETRY_AFTER_BUSY),
            StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_NO_HOME),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
