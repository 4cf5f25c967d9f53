//! Takes typed fields out of a JSON object and names the field in every error.

use super::ParseError;
use serde_json::{Map, Value};

/// Longest piece of a client's text that an error repeats, in characters: enough to recognise it.
const QUOTED_CHARACTERS_MAX: usize = 40;

/// Whole numbers beyond this are not exact as JSON floats.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// A JSON object whose fields are taken one by one; `null` counts as absent, as with OpenAI.
#[derive(Debug)]
pub struct Fields {
    map: Map<String, Value>,
    /// Put before names in errors, for example `messages[3].`.
    path: String,
}

/// Numbers that a field allows; both ends belong to it unless the variant says otherwise.
#[derive(Clone, Copy, Debug)]
pub enum Interval {
    Closed(f32, f32),
    /// Above the first, up to the second.
    Above(f32, f32),
}

impl Interval {
    fn holds(self, value: f32) -> bool {
        match self {
            Self::Closed(low, high) => value >= low && value <= high,
            Self::Above(low, high) => value > low && value <= high,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Closed(low, high) => format!("between {low} and {high}"),
            Self::Above(low, high) => format!("above {low} and at most {high}"),
        }
    }
}

impl Fields {
    pub fn new(map: Map<String, Value>) -> Self {
        Self { map, path: String::new() }
    }

    /// The object at `path`, or an error that names it.
    pub fn nested(value: Value, path: &str) -> Result<Self, ParseError> {
        match value {
            Value::Object(map) => Ok(Self { map, path: format!("{path}.") }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// The field's full name.
    pub fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    pub fn peek(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub fn string(&mut self, field: &str) -> Result<Option<String>, ParseError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.name(field), "a string", &other)),
        }
    }

    /// Absent means false.
    pub fn flag(&mut self, field: &str) -> Result<bool, ParseError> {
        Ok(self.optional_flag(field)?.unwrap_or(false))
    }

    pub fn optional_flag(&mut self, field: &str) -> Result<Option<bool>, ParseError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(&self.name(field), "true or false", &other)),
        }
    }

    /// A whole number within `low..=high`.
    pub fn integer(&mut self, field: &str, low: i64, high: i64) -> Result<Option<i64>, ParseError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let name = self.name(field);
        let number = whole(&value).ok_or_else(|| wrong_type(&name, "an integer", &value))?;
        match number {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(ParseError::OutOfRange {
                param: name,
                value: describe(&value),
                allowed: format!("between {low} and {high}"),
            }),
        }
    }

    pub fn number(&mut self, field: &str, allowed: Interval) -> Result<Option<f32>, ParseError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        number(&self.name(field), &value, allowed).map(Some)
    }

    pub fn array(&mut self, field: &str, max: usize) -> Result<Option<Vec<Value>>, ParseError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Array(entries)) if entries.len() <= max => Ok(Some(entries)),
            Some(Value::Array(entries)) => {
                Err(ParseError::TooMany { param: self.name(field), count: entries.len(), max })
            }
            Some(other) => Err(wrong_type(&self.name(field), "an array", &other)),
        }
    }
}

/// A finite number within the interval.
pub fn number(name: &str, value: &Value, allowed: Interval) -> Result<f32, ParseError> {
    let Value::Number(number) = value else { return Err(wrong_type(name, "a number", value)) };
    #[allow(clippy::cast_possible_truncation)] // rounding to f32 is meant
    let number = number.as_f64().map(|number| number as f32);
    match number {
        Some(number) if allowed.holds(number) => Ok(number),
        _ => Err(ParseError::OutOfRange {
            param: name.to_owned(),
            value: describe(value),
            allowed: allowed.describe(),
        }),
    }
}

/// A token id: a whole number of 32 bits.
pub fn token_id(name: &str, value: &Value) -> Result<u32, ParseError> {
    let number = whole(value).ok_or_else(|| wrong_type(name, "a token id (an integer)", value))?;
    number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| ParseError::OutOfRange {
        param: name.to_owned(),
        value: describe(value),
        allowed: "a token id between 0 and 4294967295".to_owned(),
    })
}

/// `None`: not a whole number. `Some(None)`: one beyond 64 bits. Floats without a fraction count, since some
/// languages have no other numbers.
fn whole(value: &Value) -> Option<Option<i64>> {
    let Value::Number(number) = value else { return None };
    if let Some(number) = number.as_i64() {
        return Some(Some(number));
    }
    if number.is_u64() {
        return Some(None);
    }
    let float = number.as_f64()?;
    if float.fract() != 0.0 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)] // exact below the bound
    Some((float.abs() <= EXACT_FLOAT_MAX).then_some(float as i64))
}

pub fn wrong_type(name: &str, expected: &str, found: &Value) -> ParseError {
    ParseError::WrongType {
        param: name.to_owned(),
        expected: expected.to_owned(),
        found: describe(found),
    }
}

/// A value in an error message: short whatever the client sent.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the string {}", quote(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The text's beginning in quotes.
pub fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
