//! The body of `POST /v1/completions`.

use super::fields::{Fields, token_id, wrong_type};
use super::options::{Options, options};
use super::{ParseError, object, unsupported};
use serde_json::Value;

/// Prompts in one request: together with `n` it bounds the sequences that one body starts.
pub const PROMPTS_MAX: usize = 64;
/// OpenAI's own bound for this endpoint.
const LOGPROBS_MAX: i64 = 5;
const PROMPT_SHAPES: &str =
    "a string, an array of strings, an array of token ids, or an array of arrays of token ids";

/// One text completion request.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidCompletion {
    pub options: Options,
    /// At least one, at most [`PROMPTS_MAX`].
    pub prompts: Vec<ValidPrompt>,
}

/// A prompt as the client sent it; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidPrompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// # Errors
/// [`ParseError`] names the field.
pub fn completion(body: &[u8]) -> Result<ValidCompletion, ParseError> {
    let mut fields = Fields::new(object(body)?);
    let mut options = options(&mut fields)?;
    unsupported::refuse_in_completions(&fields, options.choices)?;
    let logprobs = fields.integer("logprobs", 0, LOGPROBS_MAX)?;
    options.sampling.top_logprobs = logprobs.and_then(|count| u32::try_from(count).ok());
    let prompt = fields.take("prompt").ok_or(ParseError::Missing {
        param: "prompt".to_owned(),
        remedy: "send the text to continue",
    })?;
    Ok(ValidCompletion { options, prompts: prompts(prompt)? })
}

fn prompts(value: Value) -> Result<Vec<ValidPrompt>, ParseError> {
    let entries = match value {
        Value::String(text) => return Ok(vec![text_prompt("prompt", text)?]),
        Value::Array(entries) => entries,
        other => return Err(wrong_type("prompt", PROMPT_SHAPES, &other)),
    };
    match entries.first() {
        None => Err(empty("prompt")),
        Some(Value::Number(_)) => Ok(vec![token_prompt("prompt", &entries)?]),
        Some(Value::String(_) | Value::Array(_)) => batch(entries),
        Some(other) => Err(wrong_type("prompt[0]", PROMPT_SHAPES, other)),
    }
}

fn batch(entries: Vec<Value>) -> Result<Vec<ValidPrompt>, ParseError> {
    if entries.len() > PROMPTS_MAX {
        let (count, max) = (entries.len(), PROMPTS_MAX);
        return Err(ParseError::TooMany { param: "prompt".to_owned(), count, max });
    }
    let named = entries.into_iter().enumerate();
    named
        .map(|(index, entry)| {
            let name = format!("prompt[{index}]");
            match entry {
                Value::String(text) => text_prompt(&name, text),
                Value::Array(ids) => token_prompt(&name, &ids),
                other => Err(wrong_type(&name, "a string or an array of token ids", &other)),
            }
        })
        .collect()
}

fn text_prompt(name: &str, text: String) -> Result<ValidPrompt, ParseError> {
    if text.is_empty() {
        return Err(empty(name));
    }
    Ok(ValidPrompt::Text(text))
}

fn token_prompt(name: &str, ids: &[Value]) -> Result<ValidPrompt, ParseError> {
    if ids.is_empty() {
        return Err(empty(name));
    }
    let named = ids.iter().enumerate();
    let ids = named
        .map(|(index, id)| match id {
            Value::Number(_) => token_id(name, id),
            other => Err(wrong_type(&format!("{name}[{index}]"), "a token id (an integer)", other)),
        })
        .collect::<Result<_, _>>()?;
    Ok(ValidPrompt::Tokens(ids))
}

fn empty(name: &str) -> ParseError {
    ParseError::OutOfRange {
        param: name.to_owned(),
        value: "empty".to_owned(),
        allowed: "at least one character or token".to_owned(),
    }
}
