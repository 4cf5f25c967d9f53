//! Why a source does not give what it is asked for; each names the file or address and what to do.

/// A request to a source that failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(
        "{what} needs a token: put {variable} into the Secret that spec.model.secretName names and restart the agents"
    )]
    NoToken { what: String, variable: &'static str },
    #[error("{what} is refused to the given token ({reason}): {remedy}")]
    Forbidden { what: String, reason: String, remedy: String },
    #[error("{what} is not there: {remedy}")]
    NotFound { what: String, remedy: String },
    #[error(
        "{file} has changed at the source ({was} before, {now} now) while it was fetched; restart the agents to take the new files"
    )]
    Changed { file: String, was: String, now: String },
    #[error(
        "{what} holds no safetensors weights; name a source with model.safetensors or model.safetensors.index.json"
    )]
    NoWeights { what: String },
    #[error("{what} answers in another way than it should: {reason}")]
    Protocol { what: String, reason: String },
    #[error("{endpoint:?} cannot be an endpoint: {reason}; write http://host:port or https://host")]
    Endpoint { endpoint: String, reason: String },
    /// The same request may succeed soon.
    #[error("{what} does not answer as it should now: {reason}")]
    Transient { what: String, reason: String },
}

impl SourceError {
    /// Whether the files at the source are the trouble, or other ones than before.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Changed { .. } | Self::NoWeights { .. } | Self::NotFound { .. } => true,
            Self::NoToken { .. }
            | Self::Forbidden { .. }
            | Self::Protocol { .. }
            | Self::Endpoint { .. }
            | Self::Transient { .. } => false,
        }
    }

    /// Whether the same request may succeed soon.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transient { .. } => true,
            Self::NoToken { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Changed { .. }
            | Self::NoWeights { .. }
            | Self::Protocol { .. }
            | Self::Endpoint { .. } => false,
        }
    }
}
