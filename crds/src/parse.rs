//! YAML → [`ModelDeployment`], bounded.

use crate::deployment::ModelDeployment;

/// A manifest is a page of text; a larger one is a mistake or an attack.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// YAML that is no ModelDeployment.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("the manifest has {bytes} bytes; at most {MANIFEST_BYTES_MAX} are read")]
    TooLong { bytes: usize },
    #[error(
        "line {line}, column {column}, {text:?}: {message}; see `boyle up --help` for a manifest to start from"
    )]
    At { line: u64, column: u64, text: String, message: String },
    #[error("{message}; see `boyle up --help` for a manifest to start from")]
    Somewhere { message: String },
}

/// Reads one document. Depth, aliases and size are bounded by the reader's budget.
///
/// # Errors
/// [`ParseError`] with the place and the field.
pub fn parse_yaml(text: &str) -> Result<ModelDeployment, ParseError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ParseError::TooLong { bytes: text.len() });
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|location| (location.line(), location.column()));
        let message = error.without_snippet().to_string();
        match place {
            Some((line, column)) if line > 0 => {
                let (text, message) = (line_text(text, line), plain(&message));
                ParseError::At { line, column, text, message }
            }
            _ => ParseError::Somewhere { message },
        }
    })
}

/// Longest part of a line that an error repeats.
const LINE_CHARACTERS_MAX: usize = 80;

fn line_text(text: &str, line: u64) -> String {
    let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text.lines().nth(index).unwrap_or_default().trim();
    line.chars().take(LINE_CHARACTERS_MAX).collect()
}

/// The reader's messages without what is of use to programmers only.
fn plain(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let message = message.get(..end).unwrap_or(message);
    if message == "invalid u32" {
        return format!("write a whole number from 0 to {}", u32::MAX);
    }
    let (message, _) = message.split_once(", set DuplicateKeyPolicy").unwrap_or((message, ""));
    message.to_owned()
}
