//! Wire request → the engine's, parsed once, and refusals → gRPC statuses.

use crate::limits::{
    LOGIT_BIAS_ENTRIES_MAX, LOGIT_SHIFT_MAX, SCALE_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX,
    STOP_TOKENS_MAX, TOP_LOGPROBS_MAX,
};
use engine::engine::SubmitError;
use engine::request::{EndOfSequence, Sampling, Stop};
use proto::refusal::{CONTEXT_LENGTH_EXCEEDED, ERROR_CODE, ERROR_PARAM, INVALID_REQUEST};
use proto::v1;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The request can never work. `param` is OpenAI's name of the field.
    #[error("{param}: {reason}")]
    Invalid { param: &'static str, reason: String },
    #[error("the served model is {served:?} and not {asked:?}")]
    UnknownModel { asked: String, served: String },
    #[error("this agent takes no requests: {reason}")]
    Unavailable { reason: String },
    #[error("{PREPARING} prompts are being prepared already", PREPARING = crate::limits::PREPARING_MAX)]
    Preparing,
    /// The engine does not take it. `prompt` is OpenAI's name of the field that the prompt came in.
    #[error("{source}")]
    Submit { prompt: &'static str, source: SubmitError },
    #[error("the model's files cannot render this request: {reason}")]
    Model { reason: String },
}

impl Refusal {
    pub fn invalid(param: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { param, reason: reason.into() }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let invalid = |code, param| {
            let mut metadata = MetadataMap::new();
            metadata.insert(ERROR_CODE, MetadataValue::from_static(code));
            metadata.insert(ERROR_PARAM, MetadataValue::from_static(param));
            Status::with_metadata(Code::InvalidArgument, message.clone(), metadata)
        };
        match refusal {
            Refusal::Invalid { param, .. } => invalid(INVALID_REQUEST, param),
            Refusal::Submit { prompt, source } => match source {
                SubmitError::QueueFull { .. } => Status::resource_exhausted(message),
                SubmitError::PromptTooLong { .. } => invalid(CONTEXT_LENGTH_EXCEEDED, prompt),
                SubmitError::NeverFits { .. } => invalid(CONTEXT_LENGTH_EXCEEDED, "max_tokens"),
                SubmitError::PromptEmpty | SubmitError::TokenOutOfRange { .. } => {
                    invalid(INVALID_REQUEST, prompt)
                }
            },
            Refusal::UnknownModel { .. } => Status::not_found(message),
            Refusal::Unavailable { .. } => Status::unavailable(message),
            Refusal::Preparing => Status::resource_exhausted(message),
            Refusal::Model { .. } => Status::internal(message),
        }
    }
}

/// Parses how tokens are drawn.
///
/// # Errors
/// [`Refusal::Invalid`] for a value out of range.
pub fn parse_sampling(
    wire: Option<v1::SamplingParameters>,
    vocab_size: usize,
) -> Result<Sampling, Refusal> {
    let wire = wire.ok_or_else(|| Refusal::invalid("temperature", "sampling is missing"))?;
    // No `..`: a new parameter must not be forgotten here.
    let v1::SamplingParameters {
        temperature,
        top_k,
        top_p,
        min_p,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        logit_bias,
        seed,
        top_logprobs,
    } = wire;
    within("temperature", temperature, 0.0, SCALE_MAX)?;
    within("min_p", min_p, 0.0, 1.0)?;
    within("presence_penalty", presence_penalty, -LOGIT_SHIFT_MAX, LOGIT_SHIFT_MAX)?;
    within("frequency_penalty", frequency_penalty, -LOGIT_SHIFT_MAX, LOGIT_SHIFT_MAX)?;
    within("top_p", top_p, f32::MIN_POSITIVE, 1.0)?;
    within("repetition_penalty", repetition_penalty, 1.0 / SCALE_MAX, SCALE_MAX)?;
    if logit_bias.len() > LOGIT_BIAS_ENTRIES_MAX {
        let reason =
            format!("has {} entries, more than {LOGIT_BIAS_ENTRIES_MAX}", logit_bias.len());
        return Err(Refusal::invalid("logit_bias", reason));
    }
    for (token_id, bias) in &logit_bias {
        in_vocabulary("logit_bias", *token_id, vocab_size)?;
        within("logit_bias", *bias, -LOGIT_SHIFT_MAX, LOGIT_SHIFT_MAX)?;
    }
    if let Some(count) = top_logprobs.filter(|count| *count > TOP_LOGPROBS_MAX) {
        let reason = format!("is {count} and must be at most {TOP_LOGPROBS_MAX}");
        return Err(Refusal::invalid("top_logprobs", reason));
    }
    Ok(Sampling {
        temperature,
        top_k: (top_k > 0).then_some(top_k),
        top_p,
        min_p,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        logit_bias,
        seed,
        top_logprobs,
    })
}

/// Parses when a sequence ends. Without `max_tokens` it may fill the context.
///
/// # Errors
/// [`Refusal::Invalid`] for a value out of range.
pub fn parse_stop(
    wire: Option<v1::StopConditions>,
    context_length: usize,
    vocab_size: usize,
) -> Result<Stop, Refusal> {
    let wire = wire.unwrap_or_default();
    let end_of_sequence = match wire.end_of_sequence() {
        v1::EndOfSequence::Stop => EndOfSequence::Stop,
        v1::EndOfSequence::Ignore => EndOfSequence::Ignore,
    };
    let v1::StopConditions { max_tokens, stop_strings, stop_token_ids, end_of_sequence: _ } = wire;
    if max_tokens == Some(0) {
        return Err(Refusal::invalid("max_tokens", "is 0; ask for at least one token"));
    }
    if stop_strings.len() > STOP_STRINGS_MAX {
        let reason = format!("has {} strings, more than {STOP_STRINGS_MAX}", stop_strings.len());
        return Err(Refusal::invalid("stop", reason));
    }
    for string in &stop_strings {
        if string.is_empty() || string.len() > STOP_STRING_BYTES_MAX {
            let length = string.len();
            let reason =
                format!("a stop string has {length} bytes, not 1 to {STOP_STRING_BYTES_MAX}");
            return Err(Refusal::invalid("stop", reason));
        }
    }
    if stop_token_ids.len() > STOP_TOKENS_MAX {
        let reason = format!("has {} ids, more than {STOP_TOKENS_MAX}", stop_token_ids.len());
        return Err(Refusal::invalid("stop_token_ids", reason));
    }
    for token_id in &stop_token_ids {
        in_vocabulary("stop_token_ids", *token_id, vocab_size)?;
    }
    Ok(Stop {
        max_tokens: max_tokens.map_or(context_length, |max| max as usize).min(context_length),
        strings: stop_strings,
        token_ids: stop_token_ids,
        end_of_sequence,
    })
}

/// NaN is within nothing.
fn within(param: &'static str, value: f32, min: f32, max: f32) -> Result<(), Refusal> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(Refusal::invalid(param, format!("is {value} and must be between {min} and {max}")))
    }
}

fn in_vocabulary(param: &'static str, token_id: u32, vocab_size: usize) -> Result<(), Refusal> {
    if (token_id as usize) < vocab_size {
        Ok(())
    } else {
        let reason = format!("token id {token_id} is outside the vocabulary of {vocab_size}");
        Err(Refusal::invalid(param, reason))
    }
}
