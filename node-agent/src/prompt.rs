//! A request's input → token ids, with the model's own template and tokeniser.

use crate::limits::INLINE_PROMPT_BYTES_MAX;
use crate::request::Refusal;
use crate::serving::ModelText;
use model::template::{ChatInput, Fault, Reasoning, TemplateError, UnixSeconds};
use proto::v1::{self, generate_request::Input};
use serde_json::{Map, Value};
use std::time::SystemTime;

/// A prompt that the engine takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    pub token_ids: Vec<u32>,
    pub reasoning: Reasoning,
}

/// OpenAI's name of the field that an input comes from.
pub fn param(input: Option<&Input>) -> &'static str {
    match input {
        Some(Input::Text(_) | Input::PromptTokenIds(_)) => "prompt",
        Some(Input::Chat(_)) | None => "messages",
    }
}

/// Renders and tokenises; long inputs on a thread of their own.
///
/// # Errors
/// [`Refusal`] when the input cannot become a prompt.
pub async fn prepare(text: &ModelText, input: Option<Input>) -> Result<Prompt, Refusal> {
    let input = input.ok_or_else(|| Refusal::invalid("messages", "there is no input"))?;
    let length = match &input {
        Input::PromptTokenIds(_) => 0,
        Input::Text(prompt) => prompt.len(),
        Input::Chat(v1::ChatInput { messages_json, tools_json, template_arguments_json }) => {
            messages_json.len() + tools_json.len() + template_arguments_json.len()
        }
    };
    if length <= INLINE_PROMPT_BYTES_MAX {
        return prepare_blocking(text, input);
    }
    let text = text.clone();
    let work = tokio::task::spawn_blocking(move || prepare_blocking(&text, input));
    work.await.map_err(|error| Refusal::Model { reason: error.to_string() })?
}

fn prepare_blocking(text: &ModelText, input: Input) -> Result<Prompt, Refusal> {
    match input {
        Input::PromptTokenIds(ids) => {
            Ok(Prompt { token_ids: ids.ids, reasoning: Reasoning::Closed })
        }
        Input::Text(prompt) => {
            let encoded = text.tokenizer.encode_prompt(&prompt);
            let token_ids =
                encoded.map_err(|error| Refusal::invalid("prompt", error.to_string()))?;
            Ok(Prompt { token_ids, reasoning: Reasoning::Closed })
        }
        Input::Chat(chat) => {
            let chat = parse_chat(&chat)?;
            let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = UnixSeconds(seconds.map_or(0, |it| it.as_secs()));
            let rendered = text.template.render_at(&chat, now).map_err(|error| refuse(&error))?;
            let encoded = text.tokenizer.encode(&rendered.text);
            let token_ids =
                encoded.map_err(|error| Refusal::invalid("messages", error.to_string()))?;
            Ok(Prompt { token_ids, reasoning: rendered.reasoning })
        }
    }
}

fn refuse(error: &TemplateError) -> Refusal {
    match error.fault() {
        Fault::Request => Refusal::invalid("messages", error.to_string()),
        Fault::Model => Refusal::Model { reason: crate::describe(error) },
    }
}

fn parse_chat(wire: &v1::ChatInput) -> Result<ChatInput, Refusal> {
    let v1::ChatInput { messages_json, tools_json, template_arguments_json } = wire;
    let messages = parse_json("messages", messages_json)?;
    if !messages.is_array() {
        return Err(Refusal::invalid("messages", "is no array"));
    }
    let tools = match tools_json.as_str() {
        "" => None,
        json => Some(parse_json("tools", json)?),
    };
    if tools.as_ref().is_some_and(|tools| !tools.is_array()) {
        return Err(Refusal::invalid("tools", "is no array"));
    }
    let arguments = match template_arguments_json.as_str() {
        "" => Map::new(),
        json => match parse_json("chat_template_kwargs", json)? {
            Value::Object(arguments) => arguments,
            _ => return Err(Refusal::invalid("chat_template_kwargs", "is no object")),
        },
    };
    Ok(ChatInput { messages, tools, arguments })
}

fn parse_json(param: &'static str, json: &str) -> Result<Value, Refusal> {
    serde_json::from_str(json)
        .map_err(|error| Refusal::invalid(param, format!("is no JSON: {error}")))
}
