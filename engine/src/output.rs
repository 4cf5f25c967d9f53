//! Generated tokens → text and the end: detokenisation, stop tokens, stop strings, length.
//!
//! Fed with an earlier home's tokens, it stands where that home stood; what they completed is not let out again.

use crate::request::{EndOfSequence, FinishReason, Stop};
use crate::stop::{StopMatcher, StopScan};
use model::detokenizer::Detokenizer;
use std::collections::BTreeSet;

/// One sequence's answer as far as it is generated.
#[derive(Clone, Debug)]
pub struct Output {
    ending_token_ids: BTreeSet<u32>,
    /// Tokens that the answer may still get.
    tokens_left: usize,
    detokenizer: Detokenizer,
    matcher: StopMatcher,
}

/// What one token did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Text that it completed. An ending token (a stop token or the model's end token) has none.
    pub text: String,
    pub finish: Option<Finish>,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    pub reason: FinishReason,
    pub stop_string: Option<String>,
    /// Text that was held back as the beginning of a stop string or of a character.
    pub text: String,
}

impl Output {
    /// `stop.max_tokens` is the limit that holds, the context's included.
    pub fn new(stop: &Stop, end_token_ids: &[u32]) -> Self {
        let mut ending_token_ids: BTreeSet<u32> = stop.token_ids.iter().copied().collect();
        match stop.end_of_sequence {
            EndOfSequence::Stop => ending_token_ids.extend(end_token_ids),
            EndOfSequence::Ignore => {}
        }
        Self {
            ending_token_ids,
            tokens_left: stop.max_tokens,
            detokenizer: Detokenizer::new(),
            matcher: StopMatcher::new(&stop.strings),
        }
    }

    /// Tokens that may follow.
    pub fn tokens_left(&self) -> usize {
        self.tokens_left
    }

    /// Takes the next token, whose bytes are `bytes`. Nothing may follow a finish.
    pub fn accept(&mut self, token_id: u32, bytes: &[u8]) -> Accepted {
        self.tokens_left = self.tokens_left.saturating_sub(1);
        if self.ending_token_ids.contains(&token_id) {
            let finish = Some(self.finish(FinishReason::Stop));
            return Accepted { text: String::new(), finish };
        }
        let piece = self.detokenizer.push(bytes);
        match self.matcher.push(&piece) {
            StopScan::Passed(text) => Accepted { text, finish: self.finish_if_full() },
            StopScan::Stopped { before, stop_string } => Accepted {
                text: before,
                finish: Some(Finish::by_string(stop_string, String::new())),
            },
        }
    }

    /// The end by length, when no token may follow.
    pub fn finish_if_full(&mut self) -> Option<Finish> {
        (self.tokens_left == 0).then(|| self.finish(FinishReason::Length))
    }

    /// Lets the held text out. A broken character at the end may still complete a stop string.
    fn finish(&mut self, reason: FinishReason) -> Finish {
        let rest = std::mem::take(&mut self.detokenizer).finish();
        match self.matcher.push(&rest) {
            StopScan::Passed(mut text) => {
                text.push_str(&self.matcher.finish());
                Finish { reason, stop_string: None, text }
            }
            StopScan::Stopped { before, stop_string } => Finish::by_string(stop_string, before),
        }
    }
}

impl Finish {
    fn by_string(stop_string: String, text: String) -> Self {
        Self { reason: FinishReason::Stop, stop_string: Some(stop_string), text }
    }
}
