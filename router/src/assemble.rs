//! One choice's events → what the client sees of them, and what they count.

use crate::generation::ChoiceEvent;
use crate::reasoning::{Piece, Splitter};
use proto::v1::{FinishReason, ReasoningState, TokenLogprobs};

/// Whether reasoning and content are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splitting {
    /// Chat: at `</think>`.
    Reasoning,
    /// Text completions: everything is content.
    Nothing,
}

/// What one event adds to the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addition {
    pub accepted: bool,
    pub pieces: Vec<Piece>,
    pub logprobs: Vec<TokenLogprobs>,
    pub finish: Option<&'static str>,
}

/// Tokens of one choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub prompt: usize,
    pub cached: usize,
    pub generated: usize,
    /// Up to and including the token whose text completed `</think>`. Exact for homes that report each token with
    /// its own text; tokens of an event that contains the tag all count.
    pub reasoning: usize,
}

/// The state of one choice's answer.
#[derive(Clone, Debug)]
pub struct Assembler {
    splitting: Splitting,
    splitter: Splitter,
    counts: Counts,
}

impl Assembler {
    pub fn new(splitting: Splitting) -> Self {
        let splitter = Splitter::new(ReasoningState::Closed);
        Self { splitting, splitter, counts: Counts::default() }
    }

    pub fn handle(&mut self, event: ChoiceEvent) -> Addition {
        match event {
            ChoiceEvent::Accepted { prompt_tokens, cached_tokens, reasoning } => {
                self.counts.prompt = prompt_tokens;
                self.counts.cached = cached_tokens as usize;
                self.splitter = Splitter::new(reasoning);
                Addition { accepted: true, ..Addition::default() }
            }
            ChoiceEvent::Tokens { count, text, logprobs } => {
                let before = self.splitter.in_reasoning();
                let pieces = self.split(&text);
                self.counts.generated += count;
                let reasoned = before
                    || self.splitter.in_reasoning()
                    || pieces.iter().any(|piece| matches!(piece, Piece::Reasoning(_)));
                if self.splitting == Splitting::Reasoning && reasoned {
                    self.counts.reasoning = self.counts.generated;
                }
                Addition { pieces, logprobs, ..Addition::default() }
            }
            ChoiceEvent::Finished { reason, text } => {
                let mut pieces = self.split(&text);
                pieces.extend(self.splitter.finish());
                Addition { pieces, finish: Some(finish_reason(reason)), ..Addition::default() }
            }
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn split(&mut self, text: &str) -> Vec<Piece> {
        match self.splitting {
            Splitting::Reasoning => self.splitter.push(text),
            Splitting::Nothing if text.is_empty() => Vec::new(),
            Splitting::Nothing => vec![Piece::Content(text.to_owned())],
        }
    }
}

/// OpenAI's word for it.
fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::Unspecified => "stop",
    }
}
