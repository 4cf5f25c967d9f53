//! Token bytes → text, token by token: a stream never carries half a character.

/// Turns the bytes of consecutive tokens into text. What comes out, joined, equals decoding all bytes at once with
/// every broken sequence replaced by U+FFFD (one for each maximal broken part, as Unicode recommends and Python's
/// `decode(errors="replace")` does).
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    /// The beginning of a character whose rest has not come yet; at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one token's bytes and returns the characters that are complete now. Empty while a character is open.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut taken = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = taken + invalid.len() == self.pending.len();
            if invalid.is_empty() || (at_end && is_open_character(invalid)) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            taken += invalid.len();
        }
        self.pending.drain(..taken);
        text
    }

    /// Whether a character waits for its rest.
    pub fn is_mid_character(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Ends the stream: an open character becomes U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether more bytes could still make a character of `bytes`.
fn is_open_character(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}
