//! The `tojson` filter as Hugging Face defines it: Python's `json.dumps(value, ensure_ascii=False)`.

use super::environment::BoundedOutput;
use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};
use std::io::{self, Write};

/// Widest indentation; it is a multiplier of memory.
const INDENT_MAX: usize = 64;
/// Longest text whose keys are sorted: a parsed value takes up to 30 times the memory of its text.
const SORTED_BYTES_MAX: usize = 1 << 20;
/// Bytes of output for one unit of fuel.
pub(super) const BYTES_PER_FUEL: u64 = 16;

/// `json.dumps` with its arguments `ensure_ascii`, `indent`, `separators` and `sort_keys`.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands them over this way")]
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    ensure_ascii: Option<bool>,
    arguments: Kwargs,
) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no JSON"));
    }
    let style = Style::from_arguments(ensure_ascii, &arguments)?;
    let sort_keys = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    arguments.assert_all_used()?;
    let mut output = BoundedOutput::default();
    if sort_keys {
        let mut sorted = copy(value)?;
        sorted.sort_all_objects();
        sorted.serialize(&mut Serializer::with_formatter(&mut output, style)).map_err(fail)?;
    } else {
        value.serialize(&mut Serializer::with_formatter(&mut output, style)).map_err(fail)?;
    }
    state.consume_fuel(output.bytes.len() as u64 / BYTES_PER_FUEL)?;
    Ok(String::from_utf8_lossy(&output.bytes).into_owned().into())
}

/// A value as plain JSON. It goes through text because text is bounded, while a structure that contains another one
/// many times is not.
fn copy(value: &Value) -> Result<serde_json::Value, Error> {
    let mut text = BoundedOutput::default();
    serde_json::to_writer(&mut text, value).map_err(fail)?;
    if text.bytes.len() > SORTED_BYTES_MAX {
        let reason = format!("tojson: sort_keys takes up to {SORTED_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    }
    serde_json::from_slice(&text.bytes).map_err(fail)
}

fn fail(error: serde_json::Error) -> Error {
    let kind = ErrorKind::InvalidOperation;
    Error::new(kind, "this value has no JSON, or too long a one").with_source(error)
}

/// How Python's encoder writes.
struct Style {
    ascii: Ascii,
    /// Spaces for each level; `None`: all on one line.
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
    depth: usize,
    filled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ascii {
    Only,
    AndUnicode,
}

impl Style {
    fn from_arguments(ensure_ascii: Option<bool>, arguments: &Kwargs) -> Result<Self, Error> {
        let ensure_ascii = match ensure_ascii {
            Some(given) => given,
            None => arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        };
        let indent = arguments.get::<Option<usize>>("indent")?;
        if indent.is_some_and(|indent| indent > INDENT_MAX) {
            let reason = format!("tojson: indent is above {INDENT_MAX}");
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
        let default_item = if indent.is_some() { "," } else { ", " };
        let (item_separator, key_separator) =
            match arguments.get::<Option<Vec<String>>>("separators")?.as_deref() {
                None => (default_item.to_owned(), ": ".to_owned()),
                Some([item, key]) => (item.clone(), key.clone()),
                Some(_) => {
                    let reason = "tojson: separators must be two strings";
                    return Err(Error::new(ErrorKind::InvalidOperation, reason));
                }
            };
        let ascii = if ensure_ascii { Ascii::Only } else { Ascii::AndUnicode };
        Ok(Self { ascii, indent, item_separator, key_separator, depth: 0, filled: false })
    }

    fn open<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn close<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.new_line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket)
    }

    /// Before an item or a key; whether it is the first is known from the container.
    fn separate<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.filled {
            writer.write_all(self.item_separator.as_bytes())?;
        }
        self.filled = true;
        self.new_line(writer)
    }

    fn new_line<W: Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        if let Some(indent) = self.indent {
            writer.write_all(b"\n")?;
            for _ in 0..indent * self.depth {
                writer.write_all(b" ")?;
            }
        }
        Ok(())
    }
}

impl Formatter for Style {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }

    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.ascii == Ascii::AndUnicode || fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let text: &[u8] = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04x}"),
        };
        writer.write_all(text)
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        _first: bool,
    ) -> io::Result<()> {
        self.separate(writer)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        _first: bool,
    ) -> io::Result<()> {
        self.separate(writer)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key_separator.as_bytes())
    }
}

/// Python's `repr` of a float: the shortest digits, scientific below 1e-4 and from 1e16.
fn python_float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => scientific,
    }
}
