//! Splits an R1-style answer into reasoning and content. Pure: text in, pieces out.
//!
//! Reasoning is the text before `</think>`. It starts at once when the prompt ends inside `<think>`; otherwise only
//! when the answer itself begins with `<think>`. How the text is cut into deltas never changes the result.

use proto::v1::ReasoningState;

const OPENING: &str = "<think>";
const CLOSING: &str = "</think>";

/// A stretch of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Reasoning(String),
    Content(String),
}

/// The state machine; text that may still become a tag is held back.
#[derive(Clone, Debug)]
pub struct Splitter {
    state: State,
    /// Undecided text.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space and perhaps a beginning of `<think>` so far.
    Start(ReasoningState),
    /// After a `<think>` in the answer: its line ends belong to the tag.
    ReasoningStart,
    Reasoning,
    /// After `</think>`: the line ends that follow belong to the tag.
    ContentStart,
    Content,
}

impl Splitter {
    pub fn new(prompt: ReasoningState) -> Self {
        Self { state: State::Start(prompt), held: String::new() }
    }

    /// Whether the answer is still before `</think>`, as far as is decided.
    pub fn in_reasoning(&self) -> bool {
        match self.state {
            State::Start(prompt) => prompt == ReasoningState::Open,
            State::ReasoningStart | State::Reasoning => true,
            State::ContentStart | State::Content => false,
        }
    }

    /// Takes the next text and returns what is decided by it.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.advance(&mut pieces) {}
        pieces
    }

    /// The answer is over: what was held back is plain text after all.
    pub fn finish(&mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        let piece = match self.in_reasoning() {
            true => Piece::Reasoning(held),
            false => Piece::Content(held),
        };
        let empty =
            matches!(&piece, Piece::Reasoning(text) | Piece::Content(text) if text.is_empty());
        if empty { Vec::new() } else { vec![piece] }
    }

    /// One transition; false when more text is needed.
    fn advance(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Start(prompt) => self.start(prompt),
            State::ReasoningStart => self.skip_line_ends(State::Reasoning),
            State::ContentStart => self.skip_line_ends(State::Content),
            State::Reasoning => self.reasoning(pieces),
            State::Content => {
                if !self.held.is_empty() {
                    pieces.push(Piece::Content(std::mem::take(&mut self.held)));
                }
                false
            }
        }
    }

    fn start(&mut self, prompt: ReasoningState) -> bool {
        let text = self.held.trim_start();
        if text.starts_with(OPENING) {
            let tag_end = self.held.len() - text.len() + OPENING.len();
            self.held.drain(..tag_end);
            self.state = State::ReasoningStart;
        } else if OPENING.starts_with(text) {
            return false;
        } else if prompt == ReasoningState::Open {
            self.state = State::Reasoning;
        } else {
            self.state = State::Content;
        }
        true
    }

    fn skip_line_ends(&mut self, next: State) -> bool {
        let kept = self.held.trim_start_matches(['\n', '\r']).len();
        self.held.drain(..self.held.len() - kept);
        if self.held.is_empty() {
            return false;
        }
        self.state = next;
        true
    }

    fn reasoning(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let (decided, next) = match self.held.find(CLOSING) {
            Some(at) => (at, Some(State::ContentStart)),
            None => (self.held.len() - partial_tag_bytes(&self.held), None),
        };
        if decided > 0 {
            pieces.push(Piece::Reasoning(self.held.drain(..decided).collect()));
        }
        let Some(next) = next else { return false };
        self.held.drain(..CLOSING.len());
        self.state = next;
        true
    }
}

/// Bytes at the end of `text` that are a beginning of `</think>`.
fn partial_tag_bytes(text: &str) -> usize {
    let longest = (CLOSING.len() - 1).min(text.len());
    (1..=longest).rev().find(|bytes| text.ends_with(&CLOSING[..*bytes])).unwrap_or(0)
}
