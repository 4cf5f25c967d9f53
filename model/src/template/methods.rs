//! Methods of Python's strings, lists and dictionaries that templates call.

use minijinja::value::{Rest, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Widest field in `str.format`; padding is for columns, and the width is a multiplier of memory.
const FORMAT_WIDTH_MAX: u64 = 1000;

/// Called for every method that the engine does not know.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, method, arguments);
    };
    match method {
        "join" => join(state, text, arguments),
        "format" if has_wide_field(text) => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a field of str.format is wider than {FORMAT_WIDTH_MAX}"),
        )),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            let (before, middle, after) = match text.split_once(separator) {
                Some((before, after)) => (before, separator, after),
                None => (text, "", ""),
            };
            Ok(tuple([before, middle, after]))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            let (before, middle, after) = match text.rsplit_once(separator) {
                Some((before, after)) => (before, separator, after),
                None => ("", "", text),
            };
            Ok(tuple([before, middle, after]))
        }
        "rsplit" => rsplit(text, arguments),
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from(Tuple::from(parts.map(Value::from)))
}

/// Strings only, as in Python: the engine prints whole structures for other items, and does not count their size.
fn join(state: &State<'_, '_>, separator: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (items,): (&Value,) = from_args(arguments)?;
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.checked().enumerate() {
        let item = item?;
        let Some(item) = item.as_str() else {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("str.join takes strings; item {index} is a {}", item.kind()),
            ));
        };
        state.consume_fuel(1 + (item.len() + separator.len()) as u64 / 64)?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(item);
    }
    Ok(joined.into())
}

fn rsplit(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, Rest(more)): (Option<&str>, Rest<Value>) = from_args(arguments)?;
    let limit = match more.first() {
        Some(limit) if limit.kind() == ValueKind::Number => i64::try_from(limit.clone())?,
        _ => -1,
    };
    let pieces = usize::try_from(limit).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut parts: Vec<Value> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(pieces, separator).map(Value::from).collect(),
        None if limit < 0 => text.split_whitespace().rev().map(Value::from).collect(),
        None => {
            let reason = "rsplit with a limit needs a separator";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    };
    parts.reverse();
    Ok(parts.into())
}

/// Whether a number above [`FORMAT_WIDTH_MAX`] stands in a format string.
fn has_wide_field(format: &str) -> bool {
    format
        .split(|character: char| !character.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .any(|digits| digits.parse::<u64>().map_or(true, |number| number > FORMAT_WIDTH_MAX))
}
