//! The cells: which prompts, how many tokens, and which passes that makes.

use super::error::BenchError;
use super::limits::Pass;
use std::fmt;
use std::str::FromStr;

/// Tokens between the two times that are compared.
pub const MEASURED_TOKENS: usize = 32;
/// The first ones are not measured: prefill is in them.
pub const FIRST_TOKENS: usize = 2;
/// Prompt of the decode cells.
pub const DECODE_PROMPT: usize = 16;
/// A median of fewer says nothing.
pub const REPETITIONS: usize = 3;
/// More sequences or tokens than any machine of today measures in a day; keeps sizes from overflowing.
const SIZE_MAX: usize = 1 << 20;

const EXAMPLE: &str = "prefill_512, decode_b8, decode_b1_ctx4096";

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A prompt of so many tokens and one token of answer.
    Prefill { tokens: usize },
    /// So many sequences at once, short prompts.
    Decode { sequences: usize },
    /// One sequence whose last measured token is the `context`-th.
    DecodeBehind { context: usize },
}

/// What is measured without `--cells`, where the model's context allows it.
pub const USUAL: [Cell; 8] = [
    Cell::Prefill { tokens: 512 },
    Cell::Decode { sequences: 1 },
    Cell::Decode { sequences: 8 },
    Cell::Decode { sequences: 32 },
    Cell::DecodeBehind { context: 1024 },
    Cell::DecodeBehind { context: 4096 },
    Cell::DecodeBehind { context: 16_384 },
    Cell::DecodeBehind { context: 32_768 },
];

impl Cell {
    /// Positions of one sequence.
    pub fn context(self) -> usize {
        match self {
            Self::Prefill { tokens } => tokens + 1,
            Self::Decode { .. } => DECODE_PROMPT + FIRST_TOKENS + MEASURED_TOKENS,
            Self::DecodeBehind { context } => context,
        }
    }

    /// Sequences at once.
    pub fn sequences(self) -> usize {
        match self {
            Self::Decode { sequences } => sequences,
            Self::Prefill { .. } | Self::DecodeBehind { .. } => 1,
        }
    }

    /// Tokens that one pass yields.
    pub fn tokens_per_pass(self) -> usize {
        match self {
            Self::Prefill { tokens } => tokens,
            Self::Decode { .. } | Self::DecodeBehind { .. } => self.sequences(),
        }
    }

    /// A pass in the middle of the measurement.
    pub fn pass(self) -> Pass {
        let (rows, positions) = match self {
            Self::Prefill { tokens } => (tokens, 0.0),
            Self::Decode { sequences } => {
                let middle = DECODE_PROMPT + FIRST_TOKENS + MEASURED_TOKENS / 2;
                (sequences, (sequences * middle) as f64)
            }
            Self::DecodeBehind { context } => {
                (1, context as f64 - (REPETITIONS * MEASURED_TOKENS) as f64 / 2.0)
            }
        };
        Pass { rows, logits: self.sequences(), positions }
    }

    /// The prompt of a cell behind a context: the answer fills the rest.
    pub fn prompt(self) -> usize {
        match self {
            Self::Prefill { tokens } => tokens,
            Self::Decode { .. } => DECODE_PROMPT,
            Self::DecodeBehind { context } => context - Self::behind_answer(),
        }
    }

    /// Answer of a cell behind a context: all repetitions follow one prompt, which is what takes time.
    pub fn behind_answer() -> usize {
        FIRST_TOKENS + REPETITIONS * MEASURED_TOKENS
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefill { tokens } => write!(formatter, "prefill_{tokens}"),
            Self::Decode { sequences } => write!(formatter, "decode_b{sequences}"),
            Self::DecodeBehind { context } => write!(formatter, "decode_b1_ctx{context}"),
        }
    }
}

impl FromStr for Cell {
    type Err = BenchError;

    fn from_str(name: &str) -> Result<Self, BenchError> {
        let size = |text: &str, min: usize| {
            text.parse().ok().filter(|size| (min..=SIZE_MAX).contains(size))
        };
        let cell = if let Some(tokens) = name.strip_prefix("prefill_") {
            size(tokens, 1).map(|tokens| Self::Prefill { tokens })
        } else if let Some(context) = name.strip_prefix("decode_b1_ctx") {
            size(context, Self::behind_answer() + 1).map(|context| Self::DecodeBehind { context })
        } else if let Some(sequences) = name.strip_prefix("decode_b") {
            size(sequences, 1).map(|sequences| Self::Decode { sequences })
        } else {
            None
        };
        cell.ok_or_else(|| BenchError::UnknownCell { name: name.to_owned(), example: EXAMPLE })
    }
}

/// The asked cells, or the usual ones that fit the model's context of `max` tokens.
///
/// # Errors
/// [`BenchError`] for an unknown cell, one that is too long, or when none is left.
pub fn choose(asked: &[String], max: usize) -> Result<Vec<Cell>, BenchError> {
    if asked.is_empty() {
        let cells: Vec<Cell> = USUAL.into_iter().filter(|cell| cell.context() <= max).collect();
        return if cells.is_empty() { Err(BenchError::NoCell { max }) } else { Ok(cells) };
    }
    let cells: Vec<Cell> = asked.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    match cells.iter().find(|cell| cell.context() > max) {
        Some(cell) => {
            Err(BenchError::ContextTooLong { cell: cell.to_string(), needed: cell.context(), max })
        }
        None => Ok(cells),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, USUAL, choose};

    #[test]
    fn names_are_read_back() {
        for cell in USUAL {
            assert_eq!(cell.to_string().parse::<Cell>().unwrap(), cell);
        }
        for name in ["", "prefill", "prefill_0", "decode_b0", "decode_b-1", "decode_b1_ctx98"] {
            let error = name.parse::<Cell>().unwrap_err().to_string();
            assert!(error.contains("decode_b8") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_usual_cells_are_those_that_fit() {
        let names = |max| {
            let cells = choose(&[], max).unwrap();
            cells.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(512), ["decode_b1", "decode_b8", "decode_b32"]);
        assert_eq!(names(4096).last().unwrap(), "decode_b1_ctx4096");
        assert_eq!(names(32_768).len(), USUAL.len());
        assert!(choose(&[], 10).unwrap_err().to_string().contains("--cells"));
        let long = choose(&["prefill_512".into()], 512).unwrap_err().to_string();
        assert!(long.contains("513") && long.contains("512"), "{long}");
    }

    #[test]
    fn prompt_and_answer_fill_the_context() {
        let cell = Cell::DecodeBehind { context: 1024 };
        assert_eq!(cell.prompt() + Cell::behind_answer(), 1024);
        assert_eq!(cell.pass().positions, 976.0);
        let many = Cell::Decode { sequences: 8 }.pass();
        assert_eq!((many.rows, many.logits, many.positions), (8, 8, 8.0 * 34.0));
    }
}
