//! Stop strings in a stream of text, wherever the stream's pieces are cut.

/// Finds the first stop string of a stream and holds back text that may become one.
///
/// "First" is the one that is complete first; among those that end at the same character, the longest. So the answer
/// depends on the text alone and not on how it was cut into pieces.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    strings: Vec<String>,
    /// Text that was not let out yet: the beginning of some stop string.
    held: String,
}

/// What one more piece of text did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopScan {
    /// No stop string so far; this text can be none any more.
    Passed(String),
    /// A stop string; `before` is the text up to it. What came after it is dropped.
    Stopped { before: String, stop_string: String },
}

impl StopMatcher {
    /// Empty strings match nothing.
    pub fn new(strings: &[String]) -> Self {
        let strings = strings.iter().filter(|string| !string.is_empty()).cloned().collect();
        Self { strings, held: String::new() }
    }

    /// Adds a piece of text.
    pub fn push(&mut self, piece: &str) -> StopScan {
        self.held.push_str(piece);
        if let Some((start, stop_string)) = self.first_match() {
            let mut before = std::mem::take(&mut self.held);
            before.truncate(start);
            return StopScan::Stopped { before, stop_string };
        }
        let kept_from = self.held.len() - self.open_length();
        let open = self.held.split_off(kept_from);
        StopScan::Passed(std::mem::replace(&mut self.held, open))
    }

    /// Ends the stream: the held text was none.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Start and text of the match that ends first, the longest among equals.
    fn first_match(&self) -> Option<(usize, String)> {
        self.strings
            .iter()
            .filter_map(|string| self.held.find(string.as_str()).map(|start| (start, string)))
            .min_by_key(|(start, string)| (start + string.len(), *start))
            .map(|(start, string)| (start, string.clone()))
    }

    /// Bytes of the longest suffix of the held text that begins a stop string.
    fn open_length(&self) -> usize {
        self.strings.iter().map(|string| open_suffix(&self.held, string)).max().unwrap_or(0)
    }
}

/// Bytes of the longest suffix of `text` that is a proper prefix of `string`.
fn open_suffix(text: &str, string: &str) -> usize {
    let longest = text.len().min(string.len().saturating_sub(1));
    let (text, string) = (text.as_bytes(), string.as_bytes());
    // A prefix of valid UTF-8 that equals a suffix of valid UTF-8 begins at a character of both.
    (1..=longest).rev().find(|&length| text.ends_with(&string[..length])).unwrap_or(0)
}
