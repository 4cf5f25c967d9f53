//! One sequence's request and what it answers with.

use std::collections::BTreeMap;

/// Names a sequence inside one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// A request, parsed and within bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub prompt_token_ids: Vec<u32>,
    /// Tokens that an earlier home emitted; they are computed again and not emitted again.
    pub emitted_token_ids: Vec<u32>,
    pub sampling: Sampling,
    pub stop: Stop,
}

/// How a token is drawn from logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_k: Option<u32>,
    /// 1 keeps everything.
    pub top_p: f32,
    /// 0 keeps everything.
    pub min_p: f32,
    /// 1 is neutral.
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub logit_bias: BTreeMap<u32, f32>,
    pub seed: u64,
    /// `None`: no logprobs; otherwise the number of alternatives beside the chosen token.
    pub top_logprobs: Option<u32>,
}

/// When a sequence ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Emitted tokens included; the engine lowers it to what the context and the cache hold.
    pub max_tokens: usize,
    pub strings: Vec<String>,
    pub token_ids: Vec<u32>,
    pub end_of_sequence: EndOfSequence,
}

/// What the model's own end token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfSequence {
    Stop,
    Ignore,
}

/// What a sequence reports, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceEvent {
    /// It was let run. Comes first and once, unless the emitted tokens were the end already.
    Admitted {
        /// Prompt tokens whose computed state was in the cache.
        cached_tokens: usize,
    },
    Token(TokenEvent),
    Finished {
        reason: FinishReason,
        stop_string: Option<String>,
        text: String,
    },
    /// The engine could not go on with it; the message names the cause.
    Failed {
        message: String,
    },
}

/// One token and the text it completed.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEvent {
    pub token_id: u32,
    /// Empty while characters or possible stop strings are unfinished.
    pub text: String,
    pub logprobs: Option<TokenLogprobs>,
}

/// Log probabilities (natural) of the distribution before temperature and filters, as OpenAI reports them.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    pub chosen: TokenLogprob,
    /// Best first.
    pub top: Vec<TokenLogprob>,
}

/// One alternative.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    pub token_id: u32,
    pub logprob: f32,
    pub bytes: Vec<u8>,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
}
