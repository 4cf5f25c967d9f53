//! Fields that would change the answer and that this version cannot honour: refused by name rather than ignored.

use super::ParseError;
use super::fields::Fields;
use serde_json::Value;

/// Values under which an unsupported field changes nothing, so that clients that always send it work.
#[derive(Clone, Copy, Debug)]
enum Harmless {
    /// `""`, `[]`, `{}`
    Empty,
    False,
    True,
    Zero,
    /// One of these strings.
    Strings(&'static [&'static str]),
    /// The array `["text"]`.
    TextOnly,
    /// The object `{"type": "text"}`.
    TextType,
    Nothing,
}

impl Harmless {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Empty => match value {
                Value::String(text) => text.is_empty(),
                Value::Array(entries) => entries.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            },
            Self::False => value == &Value::Bool(false),
            Self::True => value == &Value::Bool(true),
            Self::Zero => value.as_f64() == Some(0.0),
            Self::Strings(allowed) => value.as_str().is_some_and(|text| allowed.contains(&text)),
            Self::TextOnly => {
                value.as_array().is_some_and(|all| all.iter().all(|one| one == "text"))
            }
            Self::TextType => value.get("type").is_some_and(|kind| kind == "text"),
            Self::Nothing => false,
        }
    }
}

type Refusal = (&'static str, Harmless, &'static str);

const TOOLS: &str = "tool calls are not parsed yet; describe the tool in a message instead";
const STRUCTURED: &str =
    "structured output comes in a later version; ask for the format in a message";

const BOTH: &[Refusal] = &[
    ("min_tokens", Harmless::Zero, "remove it"),
    ("use_beam_search", Harmless::False, "remove it; only sampling is offered"),
    ("length_penalty", Harmless::Nothing, "remove it; only sampling is offered"),
    ("prompt_logprobs", Harmless::Nothing, "remove it; log probabilities cover the answer only"),
    ("truncate_prompt_tokens", Harmless::Nothing, "shorten the prompt instead"),
    ("include_stop_str_in_output", Harmless::False, "remove it; stop strings are cut off"),
    ("skip_special_tokens", Harmless::True, "remove it; special tokens are never shown"),
    ("bad_words", Harmless::Empty, "use logit_bias instead"),
    ("allowed_token_ids", Harmless::Empty, "use logit_bias instead"),
    ("logits_processors", Harmless::Empty, "remove it"),
    ("guided_json", Harmless::Nothing, STRUCTURED),
    ("guided_regex", Harmless::Nothing, STRUCTURED),
    ("guided_choice", Harmless::Nothing, STRUCTURED),
    ("guided_grammar", Harmless::Nothing, STRUCTURED),
    ("structured_outputs", Harmless::Nothing, STRUCTURED),
    ("response_format", Harmless::TextType, STRUCTURED),
];

const CHAT: &[Refusal] = &[
    ("tools", Harmless::Empty, TOOLS),
    ("tool_choice", Harmless::Strings(&["none", "auto"]), TOOLS),
    ("functions", Harmless::Empty, TOOLS),
    ("function_call", Harmless::Strings(&["none", "auto"]), TOOLS),
    ("audio", Harmless::Nothing, "only text is answered"),
    ("modalities", Harmless::TextOnly, "only [\"text\"] is answered"),
    ("prediction", Harmless::Nothing, "remove it"),
    ("web_search_options", Harmless::Nothing, "the model has no web search"),
    ("continue_final_message", Harmless::False, "remove it"),
    ("add_generation_prompt", Harmless::True, "remove it"),
    ("echo", Harmless::False, "remove it"),
    ("chat_template", Harmless::Nothing, "the model's own template is used"),
    ("documents", Harmless::Empty, "put the documents into a message"),
];

const COMPLETIONS: &[Refusal] = &[
    ("suffix", Harmless::Empty, "remove it; the model only continues text"),
    ("echo", Harmless::False, "remove it and put the prompt before the answer yourself"),
    ("prompt_embeds", Harmless::Nothing, "send `prompt`"),
];

/// # Errors
/// The first field that chat completions cannot honour.
pub fn refuse_in_chat(fields: &Fields) -> Result<(), ParseError> {
    refuse(fields, BOTH)?;
    refuse(fields, CHAT)
}

/// # Errors
/// The first field that text completions cannot honour; `best_of` is fine when it equals `choices`.
pub fn refuse_in_completions(fields: &Fields, choices: usize) -> Result<(), ParseError> {
    refuse(fields, BOTH)?;
    refuse(fields, COMPLETIONS)?;
    match fields.peek("best_of") {
        Some(value) if value.as_u64() != Some(choices as u64) => Err(ParseError::Unsupported {
            param: "best_of".to_owned(),
            remedy: "remove it, or make it equal to `n`",
        }),
        _ => Ok(()),
    }
}

fn refuse(fields: &Fields, table: &[Refusal]) -> Result<(), ParseError> {
    for (param, harmless, remedy) in table {
        if fields.peek(param).is_some_and(|value| !harmless.holds(value)) {
            return Err(ParseError::Unsupported { param: (*param).to_owned(), remedy });
        }
    }
    Ok(())
}
