//! One request sent once, read to its end, and compared with what it should have said.

use super::prompts::Prompt;
use crate::client::{Answer, question_body};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// For a TCP connection. A router without power does not refuse it.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// For the response to begin. Routers begin streams after 5 s even if no agent has taken them.
const RESPONSE_WAIT: Duration = Duration::from_secs(15);
/// Without a byte. Routers send a comment every 5 s, so that one that says nothing is gone.
const SILENCE_WAIT: Duration = Duration::from_secs(15);
/// Characters of texts shown in a message.
const SHOWN_CHARS: usize = 200;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Exactly what was expected.
    Whole,
    /// The connection broke: the router went away and took it along.
    Broken(String),
    /// The router said no.
    Refused(String),
    /// The router ended the stream in good order, but not the answer.
    Cut(String),
    /// Another text than expected.
    Changed(String),
}

/// Who is asked.
#[derive(Clone, Debug)]
pub struct Target {
    http: reqwest::Client,
    url: String,
    model: String,
}

impl Target {
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(url: &str, model: &str) -> reqwest::Result<Self> {
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        crate::client::install_crypto();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .tcp_nodelay(true)
            .no_proxy()
            .build()?;
        Ok(Self { http, url, model: model.to_owned() })
    }

    /// Asks, and calls `heard` for each event with tokens.
    pub async fn ask(&self, prompt: &Prompt, heard: impl FnMut()) -> Ending {
        let body = question_body(&self.model, &prompt.question, &prompt.sampling);
        let request = self.http.post(format!("{}/v1/chat/completions", self.url)).json(&body);
        let response = match timeout(RESPONSE_WAIT, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ending::Broken(chain(&error)),
            Err(_) => {
                return Ending::Broken(format!("no response for {} s", RESPONSE_WAIT.as_secs()));
            }
        };
        let status = response.status();
        if !status.is_success() {
            let body = response.text().await.unwrap_or_else(|error| chain(&error));
            return Ending::Refused(format!("{status}: {}", shown(&body)));
        }
        read(response, &prompt.expected, heard).await
    }
}

async fn read(
    mut response: reqwest::Response,
    expected: &Answer,
    mut heard: impl FnMut(),
) -> Ending {
    let (mut buffer, mut answer) = (Vec::new(), Answer::default());
    loop {
        let chunk = match timeout(SILENCE_WAIT, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ending::Cut(format!("no [DONE] after {}", tail(&answer))),
            Ok(Err(error)) => return Ending::Broken(chain(&error)),
            Err(_) => return Ending::Broken(format!("silent for {} s", SILENCE_WAIT.as_secs())),
        };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                return compare(&answer, expected);
            }
            let Ok(event) = serde_json::from_str::<Value>(data) else {
                return Ending::Cut(format!("an event that is no JSON: {}", shown(data)));
            };
            let before = answer.reasoning.len() + answer.content.len();
            if let Err(error) = answer.take(&event) {
                return Ending::Cut(format!("{error:#}"));
            }
            if answer.reasoning.len() + answer.content.len() > before {
                heard();
            }
            // Noticed at once, and so the text never grows beyond what is expected.
            let begins = expected.reasoning.starts_with(&answer.reasoning)
                && expected.content.starts_with(&answer.content);
            if !begins {
                return compare(&answer, expected);
            }
        }
    }
}

fn compare(found: &Answer, expected: &Answer) -> Ending {
    if found == expected {
        return Ending::Whole;
    }
    if found.finish_reason.is_empty() && expected.content == found.content {
        return Ending::Cut("[DONE] without a finish_reason".to_owned());
    }
    for (what, found, expected) in [
        ("reasoning", &found.reasoning, &expected.reasoning),
        ("content", &found.content, &expected.content),
        ("finish_reason", &found.finish_reason, &expected.finish_reason),
    ] {
        if found != expected {
            let same = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
            let rest = |text: &str| shown(&text.chars().skip(same).collect::<String>());
            let (found, expected) = (rest(found), rest(expected));
            return Ending::Changed(format!(
                "{what} after {same} characters: {found:?} instead of {expected:?}"
            ));
        }
    }
    let (found, expected) = (found.completion_tokens, expected.completion_tokens);
    Ending::Changed(format!("usage counts {found} tokens instead of {expected}"))
}

fn tail(answer: &Answer) -> String {
    let text = if answer.content.is_empty() { &answer.reasoning } else { &answer.content };
    let skipped = text.chars().count().saturating_sub(SHOWN_CHARS / 4);
    format!("{:?}", text.chars().skip(skipped).collect::<String>())
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reasoning: &str, content: &str, finish: &str, tokens: u64) -> Answer {
        Answer {
            reasoning: reasoning.to_owned(),
            content: content.to_owned(),
            finish_reason: finish.to_owned(),
            completion_tokens: tokens,
        }
    }

    #[test]
    fn every_difference_is_named() {
        let expected = answer("think", "four", "stop", 9);
        assert_eq!(compare(&expected, &expected), Ending::Whole);
        for (found, said) in [
            (answer("thank", "four", "stop", 9), "reasoning after 2 characters"),
            (answer("think", "for", "stop", 9), "content after 2 characters"),
            (answer("think", "four", "length", 9), "finish_reason"),
            (answer("think", "four", "stop", 8), "8 tokens instead of 9"),
        ] {
            let Ending::Changed(message) = compare(&found, &expected) else { panic!("{said}") };
            assert!(message.contains(said), "{message}");
        }
        assert!(matches!(compare(&answer("think", "four", "", 9), &expected), Ending::Cut(_)));
    }
}
