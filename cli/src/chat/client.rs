//! A streaming client of the OpenAI chat API.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// For a TCP connection to the API.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest line of an event stream; one event of a chat holds a few tokens.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A question that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url} cannot be reached; is it running, and is it http://?")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
    #[error("the answer ended before it was complete")]
    Incomplete,
    #[error("{message}")]
    Refused { code: Option<String>, message: String },
    #[error("{url} does not speak the OpenAI API: {problem}")]
    Foreign { url: String, problem: String },
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    pub role: &'static str,
    pub content: String,
}

/// A piece of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Reasoning(&'a str),
    Answer(&'a str),
}

/// An API and the model it serves.
#[derive(Clone, Debug)]
pub struct ChatClient {
    http: reqwest::Client,
    base: String,
    model: Model,
    temperature: f32,
}

impl ChatClient {
    /// Asks the API which model it serves. The URL may end in `/v1` or not.
    ///
    /// # Errors
    /// [`ClientError`] when it cannot be reached or is something else.
    pub async fn connect(url: &str, temperature: f32) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let unreachable = |source| ClientError::Unreachable { url: base.clone(), source };
        let http = http.map_err(unreachable)?;
        let response = http.get(format!("{base}/v1/models")).send().await.map_err(unreachable)?;
        let foreign = |problem: String| ClientError::Foreign { url: base.clone(), problem };
        let models: Models =
            response.json().await.map_err(|error| foreign(crate::describe(&error)))?;
        let first = models.data.into_iter().next();
        let model = first.ok_or_else(|| foreign("it serves no model".to_owned()));
        Ok(Self { http, base, model: model?, temperature })
    }

    /// The served model's name.
    pub fn model(&self) -> &str {
        &self.model.id
    }

    /// Tokens that its context holds, where the API says so.
    pub fn context_length(&self) -> Option<u32> {
        self.model.max_model_len
    }

    /// Streams the answer to a conversation and returns it without its reasoning.
    ///
    /// # Errors
    /// [`ClientError`]; pieces may have come before.
    pub async fn ask(
        &self,
        messages: &[Message],
        show: &mut dyn FnMut(Piece<'_>),
    ) -> Result<String, ClientError> {
        let body = json!({
            "model": self.model.id,
            "messages": messages,
            "stream": true,
            "temperature": self.temperature,
        });
        let request = self.http.post(format!("{}/v1/chat/completions", self.base)).json(&body);
        let unreachable = |source| ClientError::Unreachable { url: self.base.clone(), source };
        let mut response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            let status = response.status();
            let text = response.text().await.map_err(ClientError::Broken)?;
            return Err(refusal(&text).unwrap_or(ClientError::Foreign {
                url: self.base.clone(),
                problem: format!("status {status}"),
            }));
        }
        let mut lines = Lines::default();
        let mut answer = String::new();
        while let Some(chunk) = response.chunk().await.map_err(ClientError::Broken)? {
            lines.handle_bytes(&chunk);
            if lines.pending.len() > LINE_BYTES_MAX {
                let problem = format!("an event is longer than {LINE_BYTES_MAX} bytes");
                return Err(ClientError::Foreign { url: self.base.clone(), problem });
            }
            while let Some(line) = lines.poll_line() {
                let Some(data) = line.strip_prefix("data: ") else { continue };
                if data == "[DONE]" {
                    return Ok(answer);
                }
                take_event(data, &mut answer, show)?;
            }
        }
        Err(ClientError::Incomplete)
    }
}

/// Hands an event's text on.
fn take_event(
    data: &str,
    answer: &mut String,
    show: &mut dyn FnMut(Piece<'_>),
) -> Result<(), ClientError> {
    if let Some(refused) = refusal(data) {
        return Err(refused);
    }
    // Events that carry something else are not for us.
    let Ok(event) = serde_json::from_str::<Event>(data) else { return Ok(()) };
    for choice in event.choices {
        if let Some(text) = choice.delta.reasoning_content.filter(|text| !text.is_empty()) {
            show(Piece::Reasoning(&text));
        }
        if let Some(text) = choice.delta.content.filter(|text| !text.is_empty()) {
            answer.push_str(&text);
            show(Piece::Answer(&text));
        }
    }
    Ok(())
}

/// `{"error": {"message", "code", …}}`, OpenAI's shape.
fn refusal(text: &str) -> Option<ClientError> {
    let value: Value = serde_json::from_str(text).ok()?;
    let error = value.get("error")?;
    let field = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(ClientError::Refused { code: field("code"), message: field("message")? })
}

#[derive(Debug, Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Clone, Debug, Deserialize)]
struct Model {
    id: String,
    /// As vLLM and this router report it.
    max_model_len: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    reasoning_content: Option<String>,
    content: Option<String>,
}

/// Bytes in pieces of any size → lines.
#[derive(Debug, Default)]
struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    fn handle_bytes(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    fn poll_line(&mut self) -> Option<String> {
        let end = self.pending.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_where_bytes_are_cut() {
        let text = "data: é\r\n\ndata: b\n";
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in [head, tail] {
                lines.handle_bytes(part);
                found.extend(std::iter::from_fn(|| lines.poll_line()));
            }
            assert_eq!(found, ["data: é", "", "data: b"]);
        }
    }

    #[test]
    fn events_are_told_apart() {
        let mut told = Vec::new();
        let mut answer = String::new();
        for data in [
            r#"{"choices":[{"delta":{"role":"assistant"}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"delta":{"content":"3"}}]}"#,
            r#"{"choices":[],"usage":{}}"#,
        ] {
            let mut show = |piece: Piece<'_>| told.push(format!("{piece:?}"));
            assert!(take_event(data, &mut answer, &mut show).is_ok());
        }
        assert_eq!(told, [r#"Reasoning("hm")"#, r#"Answer("3")"#]);
        assert_eq!(answer, "3");
    }

    #[test]
    fn errors_inside_a_stream_end_it() {
        let data =
            r#"{"error":{"message":"no home","type":"server_error","param":null,"code":null}}"#;
        let error = take_event(data, &mut String::new(), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "no home");
    }
}
