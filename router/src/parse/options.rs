//! The options that chat and text completions share.

use super::ParseError;
use super::fields::{Fields, Interval, describe, number, quote, token_id, wrong_type};
use proto::v1::{EndOfSequence, SamplingParameters, StopConditions};
use serde_json::Value;

/// Answers to one prompt (`n`): each holds a sequence slot and KV blocks on a home.
pub const CHOICES_MAX: usize = 16;
/// OpenAI's own bound.
pub const STOP_STRINGS_MAX: usize = 4;
/// Every token is compared with each of them.
pub const STOP_TOKEN_IDS_MAX: usize = 16;
/// OpenAI's own bound; the map goes to the home with every attempt.
pub const LOGIT_BIAS_MAX: usize = 1024;
/// Bytes of one stop string: a home holds back that much text to recognise it.
pub const STOP_STRING_BYTES_MAX: usize = 1024;
/// Largest `repetition_penalty`; above it logits lose all meaning in f32.
const REPETITION_PENALTY_MAX: f32 = 10.0;

/// What both endpoints understand alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name of the served model.
    pub model: String,
    /// Answers to each prompt, 1 to [`CHOICES_MAX`].
    pub choices: usize,
    pub delivery: Delivery,
    /// The client's seed, if any; the one in `sampling` is set for each choice later.
    pub seed: Option<u64>,
    pub sampling: SamplingParameters,
    pub stop: StopConditions,
}

/// How the answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    Stream(UsageChunk),
}

/// Whether a stream ends with a chunk that counts tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageChunk {
    Included,
    Omitted,
}

/// Takes the shared fields.
pub fn options(fields: &mut Fields) -> Result<Options, ParseError> {
    let model = fields.string("model")?.ok_or(ParseError::Missing {
        param: "model".to_owned(),
        remedy: "name the served model, as in GET /v1/models",
    })?;
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // within 1..=CHOICES_MAX
    let choices = fields.integer("n", 1, CHOICES_MAX as i64)?.unwrap_or(1) as usize;
    Ok(Options {
        model,
        choices,
        delivery: delivery(fields)?,
        seed: fields.integer("seed", i64::MIN, i64::MAX)?.map(i64::cast_unsigned),
        sampling: sampling(fields)?,
        stop: stop(fields)?,
    })
}

fn delivery(fields: &mut Fields) -> Result<Delivery, ParseError> {
    let stream = fields.flag("stream")?;
    let options = fields.take("stream_options");
    if !stream {
        return match options {
            None => Ok(Delivery::Whole),
            Some(_) => Err(ParseError::Conflict {
                param: "stream_options".to_owned(),
                problem: "is only allowed together with \"stream\": true".to_owned(),
            }),
        };
    }
    let Some(options) = options else { return Ok(Delivery::Stream(UsageChunk::Omitted)) };
    let mut options = Fields::nested(options, "stream_options")?;
    Ok(Delivery::Stream(match options.flag("include_usage")? {
        true => UsageChunk::Included,
        false => UsageChunk::Omitted,
    }))
}

fn sampling(fields: &mut Fields) -> Result<SamplingParameters, ParseError> {
    let penalty = Interval::Closed(-2.0, 2.0);
    // -1 and 0 both switch the filter off, as with vLLM.
    let top_k = fields.integer("top_k", -1, i64::from(u32::MAX))?.unwrap_or(0).max(0);
    Ok(SamplingParameters {
        temperature: fields.number("temperature", Interval::Closed(0.0, 2.0))?.unwrap_or(1.0),
        top_k: u32::try_from(top_k).unwrap_or(0),
        top_p: fields.number("top_p", Interval::Above(0.0, 1.0))?.unwrap_or(1.0),
        min_p: fields.number("min_p", Interval::Closed(0.0, 1.0))?.unwrap_or(0.0),
        repetition_penalty: fields
            .number("repetition_penalty", Interval::Above(0.0, REPETITION_PENALTY_MAX))?
            .unwrap_or(1.0),
        presence_penalty: fields.number("presence_penalty", penalty)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", penalty)?.unwrap_or(0.0),
        logit_bias: logit_bias(fields)?.into_iter().collect(),
        seed: 0,
        top_logprobs: None,
    })
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ParseError> {
    let param = "logit_bias";
    let map = match fields.take(param) {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type(param, "an object of token ids to biases", &other)),
    };
    if map.len() > LOGIT_BIAS_MAX {
        let (count, max) = (map.len(), LOGIT_BIAS_MAX);
        return Err(ParseError::TooMany { param: param.to_owned(), count, max });
    }
    map.iter()
        .map(|(key, bias)| {
            let id = key.parse::<u32>().map_err(|_| ParseError::Conflict {
                param: param.to_owned(),
                problem: format!("has the key {}; keys must be token ids", quote(key)),
            })?;
            let bias = number(&format!("{param}.{id}"), bias, Interval::Closed(-100.0, 100.0))?;
            Ok((id, bias))
        })
        .collect()
}

fn stop(fields: &mut Fields) -> Result<StopConditions, ParseError> {
    let max_tokens = match (
        max_tokens(fields, "max_tokens")?,
        max_tokens(fields, "max_completion_tokens")?,
    ) {
        (Some(old), Some(new)) if old != new => {
            return Err(ParseError::Conflict {
                param: "max_tokens".to_owned(),
                problem: format!(
                    "is {old} and `max_completion_tokens` is {new}; send one of them, or the same number"
                ),
            });
        }
        (old, new) => new.or(old),
    };
    let end_of_sequence = match fields.flag("ignore_eos")? {
        true => EndOfSequence::Ignore,
        false => EndOfSequence::Stop,
    };
    let stop_token_ids = fields
        .array("stop_token_ids", STOP_TOKEN_IDS_MAX)?
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(index, id)| token_id(&format!("stop_token_ids[{index}]"), id))
        .collect::<Result<_, _>>()?;
    Ok(StopConditions {
        max_tokens,
        stop_strings: stop_strings(fields)?,
        stop_token_ids,
        end_of_sequence: end_of_sequence.into(),
    })
}

fn max_tokens(fields: &mut Fields, field: &str) -> Result<Option<u32>, ParseError> {
    let tokens = fields.integer(field, 1, i64::from(u32::MAX))?;
    Ok(tokens.and_then(|tokens| u32::try_from(tokens).ok()))
}

fn stop_strings(fields: &mut Fields) -> Result<Vec<String>, ParseError> {
    let entries = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => return Ok(vec![stop_string("stop", text)?]),
        Some(Value::Array(entries)) => entries,
        Some(other) => return Err(wrong_type("stop", "a string or an array of strings", &other)),
    };
    if entries.len() > STOP_STRINGS_MAX {
        let (count, max) = (entries.len(), STOP_STRINGS_MAX);
        return Err(ParseError::TooMany { param: "stop".to_owned(), count, max });
    }
    let named = entries.into_iter().enumerate();
    named
        .map(|(index, entry)| match entry {
            Value::String(text) => stop_string(&format!("stop[{index}]"), text),
            other => Err(wrong_type(&format!("stop[{index}]"), "a string", &other)),
        })
        .collect()
}

fn stop_string(name: &str, text: String) -> Result<String, ParseError> {
    if text.is_empty() || text.len() > STOP_STRING_BYTES_MAX {
        return Err(ParseError::OutOfRange {
            param: name.to_owned(),
            value: describe(&Value::String(text)),
            allowed: format!("1 to {STOP_STRING_BYTES_MAX} bytes long"),
        });
    }
    Ok(text)
}
