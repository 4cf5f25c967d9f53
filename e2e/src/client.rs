//! A client of OpenAI's API, no cleverer than a test needs.

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longest wait for one whole answer; a reload in the middle of it included.
const ANSWER_DEADLINE: Duration = Duration::from_secs(180);

/// Tokens of an endless answer: most of the embedded model's context.
const ENDLESS_TOKENS: usize = 480;

/// What HTTP clients need before the first of them is made.
pub fn install_crypto() {
    // It fails only when it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn http() -> reqwest::Client {
    install_crypto();
    reqwest::Client::new()
}

/// Name of the model that a router serves.
///
/// # Errors
/// When nothing answers there, or it serves nothing.
pub async fn served_model(url: &str) -> Result<String> {
    let base = url.trim_end_matches('/').trim_end_matches("/v1");
    let url = format!("{base}/v1/models");
    let answer = http().get(&url).send().await.with_context(|| format!("asking {url}"))?;
    let models: Value = answer.error_for_status()?.json().await?;
    let id = models.pointer("/data/0/id").and_then(Value::as_str);
    id.map(str::to_owned).with_context(|| format!("no model is served: {models}"))
}

/// The body of a streamed question.
pub fn question_body(model: &str, question: &str, sampling: &Sampling) -> Value {
    let mut body = json!({
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 300,
    });
    match sampling {
        Sampling::Greedy => body["temperature"] = json!(0),
        Sampling::Seeded { seed } => {
            // So high that a well-trained model, too, takes another way when one random number differs.
            body["temperature"] = json!(2.0);
            body["seed"] = json!(seed);
        }
    }
    body
}

/// Talks to one router.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    model: String,
}

/// How a text is to be generated.
#[derive(Clone, Debug)]
pub enum Sampling {
    Greedy,
    Seeded { seed: u64 },
}

/// One answer, put together from its deltas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub reasoning: String,
    pub content: String,
    pub finish_reason: String,
    pub completion_tokens: u64,
}

/// Bytes of text received so far, over all streams that share it. Not deltas: a step may say several tokens.
pub type Progress = Arc<AtomicUsize>;

impl Client {
    pub fn new(url: &str, model: &str) -> Self {
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Self { http: http(), url, model: model.to_owned() }
    }

    /// Asks one question and reads the stream to its end.
    ///
    /// # Errors
    /// An HTTP error, an error inside the stream, a stream that ends early, or the deadline.
    pub async fn ask(
        &self,
        question: &str,
        sampling: &Sampling,
        progress: &Progress,
    ) -> Result<Answer> {
        let body = question_body(&self.model, question, sampling);
        tokio::time::timeout(ANSWER_DEADLINE, self.streamed(&body, progress))
            .await
            .with_context(|| format!("no whole answer to {question:?} in time"))?
            .with_context(|| format!("asking {question:?}"))
    }

    /// Asks all of them, at most `at_once` at a time; answers come in the order of the questions.
    ///
    /// # Errors
    /// The first question's that failed.
    pub async fn ask_all(
        &self,
        asked: &[(String, Sampling)],
        at_once: usize,
        progress: &Progress,
    ) -> Result<Vec<Answer>> {
        let answers =
            stream::iter(asked).map(|(question, sampling)| self.ask(question, sampling, progress));
        answers.buffered(at_once).collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Streams as many answers at once, each as long as the context holds.
    ///
    /// # Errors
    /// The first one's that failed.
    pub async fn endless(&self, streams: usize, progress: &Progress) -> Result<Vec<Answer>> {
        let body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": true,
            "ignore_eos": true,
            "max_tokens": ENDLESS_TOKENS,
        });
        let answers = (0..streams).map(|_| self.streamed(&body, progress));
        futures::future::try_join_all(answers).await
    }

    async fn streamed(&self, body: &Value, progress: &Progress) -> Result<Answer> {
        let request = self.http.post(format!("{}/v1/chat/completions", self.url)).json(body);
        let response = request.send().await?;
        let status = response.status();
        ensure!(status.is_success(), "{status}: {}", response.text().await?);
        let (mut chunks, mut buffer, mut answer) =
            (response.bytes_stream(), Vec::new(), Answer::default());
        while let Some(chunk) = chunks.next().await {
            buffer.extend_from_slice(&chunk?);
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8(line).context("a line that is no UTF-8")?;
                let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
                if data == "[DONE]" {
                    ensure!(
                        !answer.finish_reason.is_empty(),
                        "the stream ended without a finish_reason"
                    );
                    return Ok(answer);
                }
                let before = answer.text_bytes();
                answer.take(&serde_json::from_str(data)?)?;
                progress.fetch_add(answer.text_bytes() - before, Ordering::Relaxed);
            }
        }
        bail!("the stream ended without [DONE], after {answer:?}")
    }

    /// One value of `/metrics`, summed over its labels.
    ///
    /// # Errors
    /// When it cannot be fetched or has no such metric.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.http.get(format!("{}/metrics", self.url)).send().await?.text().await?;
        let values = text.lines().filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            (key.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        let values: Vec<f64> = values.collect();
        ensure!(!values.is_empty(), "/metrics has no {name}");
        Ok(values.iter().sum())
    }

    /// Any POST, for requests that are to be refused: the status and the body.
    ///
    /// # Errors
    /// When no HTTP answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let response = self.http.post(format!("{}{path}", self.url)).json(body).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }
}

impl Answer {
    fn text_bytes(&self) -> usize {
        self.reasoning.len() + self.content.len()
    }

    /// Adds one event of the stream.
    ///
    /// # Errors
    /// When it is an error.
    pub fn take(&mut self, event: &Value) -> Result<()> {
        if let Some(error) = event.get("error") {
            bail!("an error inside the stream: {error}");
        }
        if let Some(tokens) = event.pointer("/usage/completion_tokens").and_then(Value::as_u64) {
            self.completion_tokens = tokens;
        }
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.reasoning.push_str(text("/choices/0/delta/reasoning_content"));
        self.content.push_str(text("/choices/0/delta/content"));
        if self.finish_reason.is_empty() {
            text("/choices/0/finish_reason").clone_into(&mut self.finish_reason);
        }
        Ok(())
    }
}
