//! What is wrong with a resource, and what to write instead.

use std::fmt;

/// The field of a violation that is about the spec as a whole: it could not even be read.
pub const UNREADABLE_FIELD: &str = "spec";

/// One field that cannot stay as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the root, `spec.agents.max` for example.
    pub field: String,
    /// The value found.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl Violation {
    pub(crate) fn new(field: &str, value: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { field: field.to_owned(), value: value.to_string(), remedy: remedy.to_string() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {:?}: {}", self.field, self.value, self.remedy)
    }
}

impl std::error::Error for Violation {}
