//! The Jinja engine, set up as Hugging Face sets up Python's.

use super::{
    ELIF_MAX, FUEL_MAX, OUTPUT_BYTES_MAX, RECURSION_MAX, SOURCE_BYTES_MAX, TAG_BYTES_MAX,
    TemplateError, UnixSeconds, date, json, methods, tags,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Template, Value};
use std::error::Error as _;
use std::io::{self, Write as _};

/// What a template told the client with `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// The text grew past [`OUTPUT_BYTES_MAX`].
#[derive(Debug, thiserror::Error)]
#[error("the output is too long")]
pub(super) struct TooLong;

/// An environment without templates.
pub(super) fn new() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    if let Ok(syntax) = syntax {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL_MAX));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("string", string);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", raise_exception);
    environment
}

/// Compiles a template into the environment.
pub(super) fn add(
    environment: &mut Environment<'static>,
    name: &'static str,
    source: &str,
) -> Result<(), TemplateError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(TemplateError::TooLarge { size: source.len() as u64 });
    }
    let count = source.matches("elif").count();
    if count > ELIF_MAX {
        return Err(TemplateError::TooManyBranches { count });
    }
    let size = tags::longest_tag(source);
    if size > TAG_BYTES_MAX {
        return Err(TemplateError::TagTooLong { size });
    }
    environment.add_template_owned(name, without_generation_marks(source)).map_err(|error| {
        TemplateError::Syntax { line: error.line().unwrap_or(0), reason: reason(&error) }
    })
}

/// Renders into bounded memory.
pub(super) fn render(template: &Template<'_, '_>, context: Value) -> Result<String, TemplateError> {
    let mut output = BoundedOutput::default();
    template
        .render_captured_to(context, &mut output)
        .map_err(|error| TemplateError::from_engine(&error))?;
    // Jinja writes whole strings, so this cannot fail.
    Ok(String::from_utf8_lossy(&output.bytes).into_owned())
}

/// `strftime_now` for one moment.
pub(super) fn clock(now: UnixSeconds) -> Value {
    Value::from_function(move |format: &str| date::strftime(now, format))
}

impl TemplateError {
    /// Tells a template's refusal from its failure.
    pub(super) fn from_engine(error: &Error) -> Self {
        if error.kind() == ErrorKind::OutOfFuel {
            return Self::OutOfFuel;
        }
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(Raised(message)) = inner.downcast_ref() {
                return Self::Raised { message: message.clone() };
            }
            if inner.is::<TooLong>() || is_too_long_io(inner) {
                return Self::OutputTooLong;
            }
            if inner.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
                return Self::OutOfFuel;
            }
            cause = inner.source();
        }
        Self::Render { line: error.line().unwrap_or(0), reason: reason(error) }
    }
}

fn is_too_long_io(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<TooLong>())
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let raised = Raised(shown(message)?);
    Err(Error::new(ErrorKind::InvalidOperation, "the template refused the messages")
        .with_source(raised))
}

/// The engine's own `string` filter counts the text only when it is complete.
fn string(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    let text = shown(value)?;
    state.consume_fuel(text.len() as u64 / json::BYTES_PER_FUEL)?;
    Ok(text.into())
}

/// A value's text, bounded: a structure that contains another one many times can be far longer than its memory.
fn shown(value: &Value) -> Result<String, Error> {
    let mut output = BoundedOutput::default();
    write!(output, "{value}").map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, "this value is too long as text").with_source(error)
    })?;
    Ok(String::from_utf8_lossy(&output.bytes).into_owned())
}

fn reason(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// `{% generation %}` and `{% endgeneration %}` mark text for training; they become an `if` that always holds, which
/// keeps what the tags say about white space.
fn without_generation_marks(source: &str) -> String {
    let mut output = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        output.push_str(before);
        match generation_mark(after) {
            Some((replacement, remaining)) => {
                output.push_str(&replacement);
                rest = remaining;
            }
            None => {
                output.push_str("{%");
                rest = after;
            }
        }
    }
    output.push_str(rest);
    output
}

/// `after` starts behind a `{%`; returns the new tag and what stands behind the old one.
fn generation_mark(after: &str) -> Option<(String, &str)> {
    let (open, inside) = dash(after);
    let inside = inside.trim_start();
    let (tag, inside) = match inside.strip_prefix("generation") {
        Some(inside) => ("if true", inside),
        None => ("endif", inside.strip_prefix("endgeneration")?),
    };
    let (close, inside) = dash(inside.trim_start());
    Some((format!("{{%{open} {tag} {close}%}}"), inside.strip_prefix("%}")?))
}

fn dash(text: &str) -> (&str, &str) {
    let length = usize::from(text.starts_with(['-', '+']));
    text.split_at(length)
}

/// Text up to [`OUTPUT_BYTES_MAX`].
#[derive(Default)]
pub(super) struct BoundedOutput {
    pub bytes: Vec<u8>,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other(TooLong));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
