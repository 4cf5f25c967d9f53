//! An error and the causes below it, in one line for logs and messages.

use std::error::Error;

/// `outer: inner: innermost`, without repeating a layer whose text is in the one above.
pub fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let layer = inner.to_string();
        if !text.contains(&layer) {
            text = format!("{text}: {layer}");
        }
        source = inner.source();
    }
    text
}
