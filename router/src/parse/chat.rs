//! The body of `POST /v1/chat/completions`.

use super::fields::{Fields, describe, quote, wrong_type};
use super::options::{Options, options};
use super::{ParseError, object, unsupported};
use proto::v1::ChatInput;
use serde_json::{Map, Value};

/// Messages in one request: far above any conversation that a context holds.
pub const MESSAGES_MAX: usize = 4096;
/// Parts of one message's content.
const PARTS_MAX: usize = 1024;
/// OpenAI's own bound.
const TOP_LOGPROBS_MAX: i64 = 20;
/// Template variables that the request's own fields set.
const TEMPLATE_NAMES_RESERVED: [&str; 3] = ["messages", "tools", "add_generation_prompt"];
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// One chat request.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidChat {
    pub options: Options,
    pub input: ChatInput,
    pub reasoning: ReasoningText,
}

/// Whether `reasoning_content` is part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningText {
    Shown,
    /// Left out; its tokens still count.
    Hidden,
}

/// # Errors
/// [`ParseError`] names the field.
pub fn chat(body: &[u8]) -> Result<ValidChat, ParseError> {
    let mut fields = Fields::new(object(body)?);
    let mut options = options(&mut fields)?;
    unsupported::refuse_in_chat(&fields)?;
    options.sampling.top_logprobs = logprobs(&mut fields)?;
    let reasoning = match fields.optional_flag("include_reasoning")? {
        None | Some(true) => ReasoningText::Shown,
        Some(false) => ReasoningText::Hidden,
    };
    let template_arguments_json = template_arguments(&mut fields)?;
    let messages_json = messages(&mut fields)?;
    let input = ChatInput { messages_json, tools_json: String::new(), template_arguments_json };
    Ok(ValidChat { options, input, reasoning })
}

/// The number of alternatives when log probabilities are asked for.
fn logprobs(fields: &mut Fields) -> Result<Option<u32>, ParseError> {
    let wanted = fields.flag("logprobs")?;
    let top = fields.integer("top_logprobs", 0, TOP_LOGPROBS_MAX)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.and_then(|top| u32::try_from(top).ok()).unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ParseError::Conflict {
            param: "top_logprobs".to_owned(),
            problem: "is only allowed together with \"logprobs\": true".to_owned(),
        }),
    }
}

/// `chat_template_kwargs`, and `reasoning_effort` as the variable that templates read.
fn template_arguments(fields: &mut Fields) -> Result<String, ParseError> {
    let param = "chat_template_kwargs";
    let mut arguments = match fields.take(param) {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type(param, "an object", &other)),
    };
    if let Some(name) = TEMPLATE_NAMES_RESERVED.iter().find(|name| arguments.contains_key(**name)) {
        return Err(ParseError::Conflict {
            param: param.to_owned(),
            problem: format!("may not set {name:?}, which the request's own fields set"),
        });
    }
    if let Some(effort) = fields.string("reasoning_effort")? {
        if !EFFORTS.contains(&effort.as_str()) {
            return Err(ParseError::OutOfRange {
                param: "reasoning_effort".to_owned(),
                value: describe(&Value::String(effort)),
                allowed: format!("one of {}", EFFORTS.join(", ")),
            });
        }
        arguments.entry("reasoning_effort").or_insert(Value::String(effort));
    }
    match arguments.is_empty() {
        true => Ok(String::new()),
        false => Ok(Value::Object(arguments).to_string()),
    }
}

fn messages(fields: &mut Fields) -> Result<String, ParseError> {
    let messages = fields.array("messages", MESSAGES_MAX)?.ok_or(ParseError::Missing {
        param: "messages".to_owned(),
        remedy: "send an array of {\"role\", \"content\"} objects",
    })?;
    if messages.is_empty() {
        return Err(ParseError::OutOfRange {
            param: "messages".to_owned(),
            value: "empty".to_owned(),
            allowed: "at least one message long".to_owned(),
        });
    }
    let named = messages.into_iter().enumerate();
    let messages = named
        .map(|(index, value)| message(value, &format!("messages[{index}]")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Value::Array(messages).to_string())
}

fn message(value: Value, path: &str) -> Result<Value, ParseError> {
    let mut fields = Fields::nested(value, path)?;
    let role = fields.string("role")?.ok_or_else(|| ParseError::Missing {
        param: fields.name("role"),
        remedy: "system, developer, user or assistant",
    })?;
    let mut message = Map::new();
    match role.as_str() {
        // Templates know the older name of the same role.
        "developer" => message.insert("role".to_owned(), "system".into()),
        "system" | "user" | "assistant" => message.insert("role".to_owned(), role.clone().into()),
        "tool" | "function" => {
            return Err(ParseError::Unsupported {
                param: fields.name("role"),
                remedy: "tool results come in a later version; put them into a user message",
            });
        }
        other => {
            return Err(ParseError::OutOfRange {
                param: fields.name("role"),
                value: quote(other),
                allowed: "system, developer, user or assistant".to_owned(),
            });
        }
    };
    if let Some(name) = fields.string("name")? {
        message.insert("name".to_owned(), name.into());
    }
    if role == "assistant" {
        refuse_calls(&fields)?;
        if let Some(reasoning) = fields.string("reasoning_content")? {
            message.insert("reasoning_content".to_owned(), reasoning.into());
        }
    }
    message.insert("content".to_owned(), content(&mut fields, &role)?);
    Ok(Value::Object(message))
}

fn refuse_calls(fields: &Fields) -> Result<(), ParseError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    for name in ["tool_calls", "function_call"] {
        if fields.peek(name).is_some_and(|value| !empty(value)) {
            return Err(ParseError::Unsupported {
                param: fields.name(name),
                remedy: "tool calls come in a later version; remove them from the history",
            });
        }
    }
    Ok(())
}

fn content(fields: &mut Fields, role: &str) -> Result<Value, ParseError> {
    let name = fields.name("content");
    match fields.take("content") {
        Some(Value::String(text)) => Ok(Value::String(text)),
        Some(Value::Array(parts)) if parts.len() > PARTS_MAX => {
            Err(ParseError::TooMany { param: name, count: parts.len(), max: PARTS_MAX })
        }
        Some(Value::Array(parts)) => {
            let named = parts.into_iter().enumerate();
            let texts = named
                .map(|(index, value)| part(value, &format!("{name}[{index}]")))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Value::String(texts.join("\n")))
        }
        Some(other) => Err(wrong_type(&name, "a string or an array of text parts", &other)),
        // Templates call string methods on it, so that null would fail there.
        None if role == "assistant" => Ok(Value::String(String::new())),
        None => Err(ParseError::Missing { param: name, remedy: "send the message's text" }),
    }
}

/// The text of one content part; anything but text is refused.
fn part(value: Value, path: &str) -> Result<String, ParseError> {
    let mut fields = Fields::nested(value, path)?;
    let kind = fields.string("type")?.ok_or_else(|| ParseError::Missing {
        param: fields.name("type"),
        remedy: "send {\"type\": \"text\", \"text\": …}",
    })?;
    let field = match kind.as_str() {
        "text" => "text",
        "refusal" => "refusal",
        _ => {
            return Err(ParseError::Unsupported {
                param: fields.name("type"),
                remedy: "the model reads text only; send parts of type \"text\"",
            });
        }
    };
    fields.string(field)?.ok_or_else(|| ParseError::Missing {
        param: fields.name(field),
        remedy: "send the part's text",
    })
}
