//! Where a model keeps its chat template and the names of its special tokens.

use super::{SOURCE_BYTES_MAX, TemplateError};
use serde_json::{Map, Value};
use std::io::ErrorKind;
use std::path::Path;

/// A larger tokenizer_config.json is not read; ones with 100 000 added tokens have 20 MB.
const CONFIG_BYTES_MAX: u64 = 64 << 20;

/// Template sources of one model.
pub(super) struct Sources {
    pub default: Option<String>,
    pub tool_use: Option<String>,
    pub special_tokens: Map<String, Value>,
}

impl Sources {
    pub(super) fn open(directory: &Path) -> Result<Self, TemplateError> {
        let path = directory.join("tokenizer_config.json");
        let config: Map<String, Value> = match read(&path, CONFIG_BYTES_MAX)? {
            Some(content) => serde_json::from_str(&content).map_err(|error| {
                TemplateError::Malformed { path: path.clone(), reason: error.to_string() }
            })?,
            None => Map::new(),
        };
        let (mut default, mut tool_use) = match config.get("chat_template") {
            None | Some(Value::Null) => (None, None),
            Some(Value::String(source)) => (Some(source.clone()), None),
            Some(Value::Array(list)) => (named(list, "default"), named(list, "tool_use")),
            Some(_) => {
                let reason = "chat_template must be a string or a list of {name, template}".into();
                return Err(TemplateError::Malformed { path, reason });
            }
        };
        let file = directory.join("chat_template.jinja");
        if let Some(source) = read(&file, SOURCE_BYTES_MAX as u64)? {
            (default, tool_use) = (Some(source), None);
        }
        Ok(Self { default, tool_use, special_tokens: special_tokens(&config) })
    }
}

fn named(list: &[Value], name: &str) -> Option<String> {
    let entry =
        list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))?;
    entry.get("template").and_then(Value::as_str).map(str::to_owned)
}

/// `"bos_token": "<s>"` or `"bos_token": {"content": "<s>", …}`; a null one is undefined in the template.
fn special_tokens(config: &Map<String, Value>) -> Map<String, Value> {
    let mut tokens = Map::new();
    for (name, value) in config.iter().filter(|(name, _)| name.ends_with("_token")) {
        let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str));
        if let Some(text) = text {
            tokens.insert(name.clone(), text.into());
        }
    }
    tokens
}

/// `None`: there is no such file.
fn read(path: &Path, bytes_max: u64) -> Result<Option<String>, TemplateError> {
    let fail = |source| TemplateError::Read { path: path.into(), source };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > bytes_max => {
            return Err(TemplateError::TooLarge { size: metadata.len() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    }
    std::fs::read_to_string(path).map(Some).map_err(fail)
}
