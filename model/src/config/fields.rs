//! Typed, bounded access to the fields of a JSON object; an explicit `null` counts as absent.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ConfigError;

/// Characters of an offending value that a message repeats.
const SHOWN_VALUE_CHARACTERS: usize = 80;

/// One JSON object and the name that messages put before its fields.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    prefix: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>, prefix: &'a str) -> Self {
        Self { object, prefix }
    }

    /// The field's value unless absent.
    pub(super) fn value(self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field is written, be it as `null`.
    pub(super) fn is_written(self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.object.iter()
    }

    /// A whole number within `range`, if present.
    pub(super) fn size_if_present(
        self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        match size.filter(|size| range.contains(size)) {
            Some(size) => Ok(Some(size)),
            None => Err(self.invalid(name, &whole_number(&range))),
        }
    }

    /// A whole number within `range`.
    pub(super) fn size(
        self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<usize, ConfigError> {
        self.size_if_present(name, range.clone())?
            .ok_or_else(|| self.missing(name, &whole_number(&range)))
    }

    /// A number within `range`, if present.
    pub(super) fn number_if_present(
        self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.invalid(name, &number_within(&range))),
        }
    }

    /// A number within `range`.
    pub(super) fn number(self, name: &str, range: RangeInclusive<f64>) -> Result<f64, ConfigError> {
        self.number_if_present(name, range.clone())?
            .ok_or_else(|| self.missing(name, &number_within(&range)))
    }

    /// A truth value, if present.
    pub(super) fn flag_if_present(self, name: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.invalid(name, "true or false"))
    }

    /// A string, if present.
    pub(super) fn text_if_present(self, name: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.invalid(name, "a string"))
    }

    /// A nested object, if present; its messages put `prefix` before its fields.
    pub(super) fn object_if_present(
        self,
        name: &str,
        prefix: &'a str,
    ) -> Result<Option<Fields<'a>>, ConfigError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_object() {
            Some(object) => Ok(Some(Fields::new(object, prefix))),
            None => Err(self.invalid(name, "an object or null")),
        }
    }

    pub(super) fn missing(self, name: &str, expected: &str) -> ConfigError {
        ConfigError::Missing { field: self.full_name(name), expected: expected.to_owned() }
    }

    pub(super) fn invalid(self, name: &str, expected: &str) -> ConfigError {
        let value = shown(self.object.get(name).unwrap_or(&Value::Null));
        ConfigError::Invalid { field: self.full_name(name), value, expected: expected.to_owned() }
    }

    pub(super) fn unsupported(self, name: &str, accepted: &'static str) -> ConfigError {
        let value = shown(self.object.get(name).unwrap_or(&Value::Null));
        ConfigError::Unsupported { field: self.full_name(name), value, accepted }
    }

    fn full_name(self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

fn whole_number(range: &RangeInclusive<usize>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

fn number_within(range: &RangeInclusive<f64>) -> String {
    format!("a number from {} to {}", range.start(), range.end())
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_VALUE_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
