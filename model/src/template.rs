//! Chat template: messages → prompt text, as Hugging Face's `apply_chat_template` renders it.
//!
//! A template comes with a model and its inputs from clients, so both are bounded: source size, work and memory
//! (fuel), recursion, output size. The bounds hold for all messages. A template that was written to harm can still
//! nest values some ten thousand deep, which costs stack; like its weights, a model's template is its publisher's.

use crate::template::source::Sources;
use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};

mod date;
mod environment;
mod json;
mod methods;
mod source;
mod tags;

pub use date::UnixSeconds;

/// Longest template source. The longest published ones have 20 kB.
pub const SOURCE_BYTES_MAX: usize = 64 << 10;
/// Longest `{{ … }}` or `{% … %}`; it bounds how deep an expression nests. Published ones stay below 1 kB.
pub const TAG_BYTES_MAX: usize = 4 << 10;
/// Longest prompt text a template may make: 4 M tokens of 4 bytes.
pub const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// Most `elif`s in a template: each one of a chain nests in the one before. Published ones have up to 30.
pub const ELIF_MAX: usize = 1000;
/// Work of one rendering: an instruction costs 1, and so do 64 bytes of data. A message of a conversation costs
/// about 100; memory stays below 64 times this.
pub const FUEL_MAX: u64 = 2_000_000;
/// Nesting of macros, loops and calls; a template that passes it loops on itself.
pub const RECURSION_MAX: usize = 100;

/// The chat template of one model. Calls are independent; share it freely.
pub struct ChatTemplate {
    environment: Environment<'static>,
    named: Named,
    directory: PathBuf,
    /// `bos_token`, `eos_token`, …, as the template's variables.
    special_tokens: Map<String, Value>,
}

/// Which templates a model brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Nothing,
    Default,
    DefaultAndToolUse,
}

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// What a conversation is made of, as the client sent it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatInput {
    /// Array of messages.
    pub messages: Value,
    /// Array of tools; `None` is `none` in the template.
    pub tools: Option<Value>,
    /// Further variables of the template (`chat_template_kwargs`). They cannot replace `messages`, `tools` and
    /// `add_generation_prompt`, which is always true.
    pub arguments: Map<String, Value>,
}

/// A prompt, ready to be tokenised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedPrompt {
    pub text: String,
    pub reasoning: Reasoning,
}

/// Where an answer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// The prompt ends with an opened `<think>`: the answer starts inside the reasoning.
    Open,
    /// The answer starts outside; the model may open `<think>` itself.
    Closed,
}

impl Reasoning {
    /// Reads it off the end of a prompt. Only white space may follow `<think>`: anywhere else the word may be a
    /// client's.
    pub fn at_end_of(prompt: &str) -> Self {
        if prompt.trim_end().ends_with("<think>") { Self::Open } else { Self::Closed }
    }
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, or else `chat_template` in `tokenizer_config.json` (a string, or a list with
    /// names). Neither is no error before `render`.
    ///
    /// # Errors
    /// [`TemplateError`] when a file cannot be read or the template does not compile.
    pub fn open(directory: &Path) -> Result<Self, TemplateError> {
        Self::compile(Sources::open(directory)?, directory)
    }

    /// Takes a template's source and the variables for special tokens.
    ///
    /// # Errors
    /// [`TemplateError`] when the template does not compile.
    pub fn from_source(
        source: &str,
        special_tokens: Map<String, Value>,
    ) -> Result<Self, TemplateError> {
        let sources = Sources { default: Some(source.into()), tool_use: None, special_tokens };
        Self::compile(sources, Path::new("the given template"))
    }

    /// Renders a prompt that ends where the assistant speaks. The template does not learn the date: `strftime_now`
    /// is undefined, and templates that check for it print their own default.
    ///
    /// # Errors
    /// [`TemplateError`]; see [`TemplateError::fault`] for whose it is.
    pub fn render(&self, input: &ChatInput) -> Result<RenderedPrompt, TemplateError> {
        self.render_with(input, None)
    }

    /// Like [`ChatTemplate::render`], with `strftime_now` telling `now` in UTC.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_at(
        &self,
        input: &ChatInput,
        now: UnixSeconds,
    ) -> Result<RenderedPrompt, TemplateError> {
        self.render_with(input, Some(now))
    }

    fn compile(sources: Sources, directory: &Path) -> Result<Self, TemplateError> {
        let mut environment = environment::new();
        let mut named = Named::Nothing;
        if let Some(source) = sources.default {
            environment::add(&mut environment, DEFAULT, &source)?;
            named = Named::Default;
            if let Some(source) = sources.tool_use {
                environment::add(&mut environment, TOOL_USE, &source)?;
                named = Named::DefaultAndToolUse;
            }
        }
        let special_tokens = sources.special_tokens;
        Ok(Self { environment, named, directory: directory.into(), special_tokens })
    }

    fn render_with(
        &self,
        input: &ChatInput,
        now: Option<UnixSeconds>,
    ) -> Result<RenderedPrompt, TemplateError> {
        let name = match (self.named, &input.tools) {
            (Named::Nothing, _) => {
                return Err(TemplateError::Absent { directory: self.directory.clone() });
            }
            (Named::DefaultAndToolUse, Some(_)) => TOOL_USE,
            (Named::Default | Named::DefaultAndToolUse, _) => DEFAULT,
        };
        let template = self
            .environment
            .get_template(name)
            .map_err(|error| TemplateError::from_engine(&error))?;
        let text = environment::render(&template, self.context(input, now))?;
        let reasoning = Reasoning::at_end_of(&text);
        Ok(RenderedPrompt { text, reasoning })
    }

    /// Later entries win.
    fn context(&self, input: &ChatInput, now: Option<UnixSeconds>) -> minijinja::Value {
        let mut variables: Vec<(&str, minijinja::Value)> =
            vec![("documents", minijinja::Value::from(()))];
        let json = |value: &Value| minijinja::Value::from(Serde(value));
        variables
            .extend(self.special_tokens.iter().map(|(name, value)| (name.as_str(), json(value))));
        variables.extend(now.map(|now| ("strftime_now", environment::clock(now))));
        variables.extend(input.arguments.iter().map(|(name, value)| (name.as_str(), json(value))));
        variables.push(("messages", json(&input.messages)));
        variables.push(("tools", input.tools.as_ref().map_or_else(|| ().into(), json)));
        variables.push(("add_generation_prompt", true.into()));
        minijinja::Value::from_pairs(variables)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChatTemplate")
            .field("named", &self.named)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Whose fault a [`TemplateError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These messages; a 400 to the client.
    Request,
    /// The model's files.
    Model,
}

/// A template that cannot be used, or a conversation that it refuses.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "{} has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); \
         send the prompt as text to /v1/completions",
        directory.display()
    )]
    Absent { directory: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("the chat template has {size} bytes, more than {SOURCE_BYTES_MAX}")]
    TooLarge { size: u64 },
    #[error("a tag of the chat template has {size} bytes, more than {TAG_BYTES_MAX}")]
    TagTooLong { size: usize },
    #[error("the chat template has {count} elif tags, more than {ELIF_MAX}")]
    TooManyBranches { count: usize },
    #[error("the chat template does not compile, line {line}: {reason}")]
    Syntax { line: usize, reason: String },
    #[error("{message}")]
    Raised { message: String },
    #[error("the chat template cannot render these messages, line {line}: {reason}")]
    Render { line: usize, reason: String },
    #[error(
        "the messages are too long for the chat template: its work is limited to {FUEL_MAX} units"
    )]
    OutOfFuel,
    #[error("the prompt is longer than {OUTPUT_BYTES_MAX} bytes")]
    OutputTooLong,
}

impl TemplateError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Absent { .. }
            | Self::Raised { .. }
            | Self::Render { .. }
            | Self::OutOfFuel
            | Self::OutputTooLong => Fault::Request,
            Self::Read { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::TagTooLong { .. }
            | Self::TooManyBranches { .. }
            | Self::Syntax { .. } => Fault::Model,
        }
    }
}
