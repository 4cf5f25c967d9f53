//! One choice's events → what the client sees of them, and what they count.

use crate::generation::ChoiceEvent;
use crate::reasoning::{Piece, Splitter};
use proto::v1::{FinishReason, ReasoningState, TokenDelta, TokenLogprobs};

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
    /// Up to and including the token whose text completed `</think>`. Where a home does not say which token completed
    /// which text, all tokens of the event with the tag count.
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
            ChoiceEvent::Accepted { prompt_tokens, cached_tokens, reasoning, .. } => {
                self.counts.prompt = prompt_tokens;
                self.counts.cached = cached_tokens as usize;
                self.splitter = Splitter::new(reasoning);
                Addition { accepted: true, ..Addition::default() }
            }
            ChoiceEvent::Tokens(delta) => {
                let mut pieces = Vec::new();
                for (tokens, text) in parts(&delta) {
                    self.token_text(tokens, text, &mut pieces);
                }
                Addition { pieces, logprobs: delta.logprobs, ..Addition::default() }
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

    /// Splits the text that so many tokens completed, and counts them.
    fn token_text(&mut self, tokens: usize, text: &str, pieces: &mut Vec<Piece>) {
        let before = self.splitter.in_reasoning();
        let added = self.split(text);
        self.counts.generated += tokens;
        let reasoned = before
            || self.splitter.in_reasoning()
            || added.iter().any(|piece| matches!(piece, Piece::Reasoning(_)));
        if self.splitting == Splitting::Reasoning && reasoned {
            self.counts.reasoning = self.counts.generated;
        }
        for piece in added {
            match (pieces.last_mut(), piece) {
                (Some(Piece::Reasoning(last)), Piece::Reasoning(text))
                | (Some(Piece::Content(last)), Piece::Content(text)) => last.push_str(&text),
                (_, piece) => pieces.push(piece),
            }
        }
    }

    fn split(&mut self, text: &str) -> Vec<Piece> {
        match self.splitting {
            Splitting::Reasoning => self.splitter.push(text),
            Splitting::Nothing if text.is_empty() => Vec::new(),
            Splitting::Nothing => vec![Piece::Content(text.to_owned())],
        }
    }
}

/// Numbers of tokens with the text that they completed: one token each if the home says so, otherwise all at once.
fn parts(delta: &TokenDelta) -> Vec<(usize, &str)> {
    let whole = || vec![(delta.token_ids.len(), delta.text.as_str())];
    if delta.text_bytes.len() != delta.token_ids.len() {
        return whole();
    }
    let mut rest = delta.text.as_str();
    let mut parts = Vec::with_capacity(delta.text_bytes.len());
    for bytes in &delta.text_bytes {
        let Some((text, after)) = rest.split_at_checked(*bytes as usize) else { return whole() };
        parts.push((1, text));
        rest = after;
    }
    if rest.is_empty() { parts } else { whole() }
}

/// OpenAI's word for it.
fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::Unspecified => "stop",
    }
}
