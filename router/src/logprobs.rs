//! Log probabilities in the two shapes of the OpenAI API.

use proto::v1::{TokenLogprob, TokenLogprobs};
use serde::Serialize;
use std::collections::BTreeMap;

/// Stands for minus infinity, which JSON has no word for; OpenAI's own value.
const LOGPROB_MIN: f32 = -9999.0;

/// `choices[].logprobs` of a chat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatLogprobs {
    pub content: Vec<ChatToken>,
    /// The API's key for refusals, which there are none of.
    pub refusal: Option<()>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatToken {
    #[serde(flatten)]
    chosen: ChatAlternative,
    top_logprobs: Vec<ChatAlternative>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatAlternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

/// `choices[].logprobs` of a text completion: one entry for each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CompletionLogprobs {
    pub tokens: Vec<String>,
    pub token_logprobs: Vec<f32>,
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Characters of the answer before the token.
    pub text_offset: Vec<usize>,
}

impl ChatLogprobs {
    pub fn new(tokens: Vec<TokenLogprobs>) -> Self {
        let content = tokens.into_iter().map(|token| ChatToken {
            chosen: alternative(&token.chosen.unwrap_or_default()),
            top_logprobs: token.top.iter().map(alternative).collect(),
        });
        Self { content: content.collect(), refusal: None }
    }
}

fn alternative(token: &TokenLogprob) -> ChatAlternative {
    ChatAlternative {
        token: text(token),
        logprob: finite(token.logprob),
        bytes: token.bytes.to_vec(),
    }
}

impl CompletionLogprobs {
    /// `offset`: characters before the first of these tokens; moved past the last.
    pub fn new(tokens: Vec<TokenLogprobs>, offset: &mut usize) -> Self {
        let mut all = Self::default();
        for token in tokens {
            let chosen = token.chosen.unwrap_or_default();
            let name = text(&chosen);
            let logprob = finite(chosen.logprob);
            let mut top: BTreeMap<String, f32> =
                token.top.iter().map(|token| (text(token), finite(token.logprob))).collect();
            // The chosen token is always among them, also when it is none of the best.
            top.insert(name.clone(), logprob);
            all.text_offset.push(*offset);
            *offset += name.chars().count();
            all.tokens.push(name);
            all.token_logprobs.push(logprob);
            all.top_logprobs.push(top);
        }
        all
    }
}

/// The token as text. One that is not whole characters is written as OpenAI does, so that different ones differ.
fn text(token: &TokenLogprob) -> String {
    match std::str::from_utf8(&token.bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let bytes = token.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob.max(LOGPROB_MIN) } else { LOGPROB_MIN }
}
