//! Reasoning dimmed, answers plain.

use super::client::Piece;
use crate::output;
use std::io::IsTerminal as _;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Where pieces of an answer go.
#[derive(Debug)]
pub struct Screen {
    target: Target,
    colour: Colour,
    state: State,
    /// White space at the end of the reasoning so far; shown when more reasoning follows.
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Both to standard output.
    Terminal,
    /// Answers to standard output, reasoning to standard error.
    Pipe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Dimmed,
    None,
}

impl Colour {
    /// What switches it on and off.
    fn codes(self) -> (&'static str, &'static str) {
        match self {
            Self::Dimmed => (DIM, PLAIN),
            Self::None => ("", ""),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Reasoning,
    Answering,
}

impl Screen {
    /// Looks at what standard output and standard error are; `NO_COLOR` is honoured.
    pub fn new() -> Self {
        let target = if std::io::stdout().is_terminal() { Target::Terminal } else { Target::Pipe };
        let reasoning_on_terminal = match target {
            Target::Terminal => true,
            Target::Pipe => std::io::stderr().is_terminal(),
        };
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = if reasoning_on_terminal && wanted { Colour::Dimmed } else { Colour::None };
        Self { target, colour, state: State::Fresh, held: String::new() }
    }

    /// Shows a piece at once.
    pub fn show(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Reasoning(text) => {
                let text = format!("{}{text}", std::mem::take(&mut self.held));
                let shown = text.trim_end();
                text.get(shown.len()..).unwrap_or_default().clone_into(&mut self.held);
                if !shown.is_empty() {
                    let (dim, plain) = self.colour.codes();
                    self.reasoning(&format!("{dim}{shown}{plain}"));
                    self.state = State::Reasoning;
                }
            }
            Piece::Answer(text) => {
                let text = match self.state {
                    // The template's blank line between the two is replaced by our own.
                    State::Fresh | State::Reasoning => text.trim_start(),
                    State::Answering => text,
                };
                if text.is_empty() {
                    return;
                }
                if self.state == State::Reasoning {
                    self.reasoning("\n\n");
                }
                self.state = State::Answering;
                output::print(text);
            }
        }
    }

    /// Ends an answer, complete or not.
    pub fn end(&mut self) {
        match self.state {
            State::Fresh => {}
            State::Reasoning => self.reasoning("\n"),
            State::Answering => output::print("\n"),
        }
        self.state = State::Fresh;
        self.held.clear();
    }

    fn reasoning(&self, text: &str) {
        match self.target {
            Target::Terminal => output::print(text),
            Target::Pipe => output::note(text),
        }
    }
}
