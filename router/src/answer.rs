//! Runs a request's choices and gives the answer its shape: one JSON object, or a stream of events.
//!
//! What the objects look like is the endpoint's business (`Format`); when they are sent is decided here.

use crate::assemble::{Addition, Assembler, Counts, Splitting};
use crate::config::Patience;
use crate::errors::ApiError;
use crate::generation::{Choice, ChoiceEvent, GenerationError};
use crate::metrics::RequestRecord;
use crate::parse::{Delivery, UsageChunk};
use crate::sse;
use crate::usage::Usage;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{BoxStream, SelectAll, StreamExt, select_all, unfold};
use proto::v1::TokenLogprobs;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// Bytes of text in one non-streamed answer over all its choices; far above any context, against endless homes.
const WHOLE_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What every object of one answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
}

/// Whether chunks have a `usage` key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageKey {
    Null,
    Absent,
}

impl From<UsageChunk> for UsageKey {
    fn from(chunk: UsageChunk) -> Self {
        match chunk {
            UsageChunk::Included => Self::Null,
            UsageChunk::Omitted => Self::Absent,
        }
    }
}

/// As the value of a chunk's optional, nullable key.
impl From<UsageKey> for Option<Option<Usage>> {
    fn from(key: UsageKey) -> Self {
        match key {
            UsageKey::Null => Some(None),
            UsageKey::Absent => None,
        }
    }
}

/// The whole answer of one choice.
#[derive(Clone, Debug, Default)]
pub struct WholeChoice {
    pub reasoning: String,
    pub content: String,
    pub logprobs: Vec<TokenLogprobs>,
    pub finish: &'static str,
}

/// How an endpoint writes its objects; JSON texts.
pub trait Format: Send + 'static {
    /// The chunks for what one event added to the choice at `index`.
    ///
    /// # Errors
    /// The JSON could not be written.
    fn chunks(
        &mut self,
        head: &Head,
        usage: UsageKey,
        index: usize,
        addition: Addition,
    ) -> Result<Vec<String>, serde_json::Error>;

    /// The last chunk, without choices.
    ///
    /// # Errors
    /// The JSON could not be written.
    fn usage_chunk(&self, head: &Head, usage: Usage) -> Result<String, serde_json::Error>;

    /// The answer in one object.
    ///
    /// # Errors
    /// The JSON could not be written.
    fn whole(
        &self,
        head: &Head,
        choices: Vec<WholeChoice>,
        usage: Usage,
    ) -> Result<String, serde_json::Error>;
}

/// A request on its way. Dropping it cancels its choices.
pub struct Job<F> {
    pub head: Head,
    pub format: F,
    pub splitting: Splitting,
    /// Choices for each prompt; prompts follow each other.
    pub choices_per_prompt: usize,
    pub patience: Patience,
    pub record: RequestRecord,
    /// Held until the answer is over.
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub permits: Vec<OwnedSemaphorePermit>,
}

type Events = SelectAll<BoxStream<'static, (usize, Result<ChoiceEvent, GenerationError>)>>;

/// The parts that turn events into objects.
struct Answer<F> {
    job: Job<F>,
    assemblers: Vec<Assembler>,
    events: Events,
}

/// Answers with the choices' texts.
pub async fn answer<F: Format>(
    job: Job<F>,
    choices: Vec<Choice>,
    delivery: Delivery,
) -> Result<Response, ApiError> {
    let assemblers = choices.iter().map(|_| Assembler::new(job.splitting)).collect();
    let answer = Answer { job, assemblers, events: merge(choices) };
    match delivery {
        Delivery::Whole => answer.whole().await,
        Delivery::Stream(usage) => answer.stream(usage).await,
    }
}

fn merge(choices: Vec<Choice>) -> Events {
    select_all(choices.into_iter().enumerate().map(|(index, choice)| {
        unfold(choice, move |mut choice| async move {
            let event = choice.next().await?;
            Some(((index, event), choice))
        })
        .boxed()
    }))
}

impl<F: Format> Answer<F> {
    async fn whole(mut self) -> Result<Response, ApiError> {
        let mut choices = vec![WholeChoice::default(); self.assemblers.len()];
        let mut bytes = 0;
        while let Some((index, event)) = self.events.next().await {
            let addition = match self.handle(index, event) {
                Ok(addition) => addition,
                Err(error) => return Err(self.fail(error)),
            };
            let Some(choice) = choices.get_mut(index) else { continue };
            bytes += choice.add(addition);
            if bytes > WHOLE_ANSWER_BYTES_MAX {
                let max = WHOLE_ANSWER_BYTES_MAX;
                return Err(self.fail(GenerationError::Endless { max, unit: "bytes" }.into()));
            }
        }
        let usage = self.usage();
        let Job { head, format, record, .. } = &mut self.job;
        let body = format.whole(head, choices, usage).map_err(render_error)?;
        record.set_code(StatusCode::OK.as_u16());
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(([json], body).into_response())
    }

    /// Waits for every choice to be accepted, so that a refusal becomes a status code, but not for ever.
    async fn stream(mut self, usage: UsageChunk) -> Result<Response, ApiError> {
        let deadline = Instant::now() + self.job.patience.response_start;
        let mut early = Vec::new();
        let mut waiting = self.assemblers.len();
        while waiting > 0 {
            match timeout_at(deadline, self.events.next()).await {
                Err(_) | Ok(None) => break,
                Ok(Some((_, Err(error)))) => return Err(self.fail(error.into())),
                Ok(Some((index, Ok(event)))) => {
                    waiting -= usize::from(matches!(event, ChoiceEvent::Accepted { .. }));
                    early.push((index, Ok(event)));
                }
            }
        }
        let keep_alive = self.job.patience.keep_alive;
        let early = early.into_iter();
        let steps = unfold((Some(self), early), move |(answer, mut early)| async move {
            let mut answer = answer?;
            let next = match early.next() {
                Some(event) => Some(event),
                None => answer.events.next().await,
            };
            let (bytes, over) = answer.step(next, usage);
            Some((bytes, ((!over).then_some(answer), early)))
        });
        Ok(sse::response(steps.boxed(), keep_alive))
    }

    /// The bytes for one event, or for the end; the second value is whether the stream is over.
    fn step(
        &mut self,
        next: Option<(usize, Result<ChoiceEvent, GenerationError>)>,
        usage: UsageChunk,
    ) -> (String, bool) {
        let Some((index, event)) = next else {
            return (self.end(usage), true);
        };
        let added = self.handle(index, event);
        let chunks = added.and_then(|addition| {
            let Job { head, format, .. } = &mut self.job;
            format.chunks(head, usage.into(), index, addition).map_err(render_error)
        });
        match chunks {
            Ok(chunks) => (chunks.iter().map(|chunk| sse::event(chunk)).collect(), false),
            // The status has been sent; clients know an object with `error`, and no [DONE] follows it.
            Err(error) => (sse::event(&self.fail(error).body()), true),
        }
    }

    fn end(&mut self, usage: UsageChunk) -> String {
        let total = self.usage();
        let mut text = String::new();
        if usage == UsageChunk::Included {
            match self.job.format.usage_chunk(&self.job.head, total).map_err(render_error) {
                Ok(chunk) => text.push_str(&sse::event(&chunk)),
                Err(error) => return sse::event(&self.fail(error).body()),
            }
        }
        self.job.record.set_code(StatusCode::OK.as_u16());
        text.push_str(&sse::event(sse::DONE));
        text
    }

    fn handle(
        &mut self,
        index: usize,
        event: Result<ChoiceEvent, GenerationError>,
    ) -> Result<Addition, ApiError> {
        let event = event?;
        match &event {
            ChoiceEvent::Accepted { held, .. } => self.job.record.accepted(*held),
            ChoiceEvent::Tokens(delta) => self.job.record.tokens(index, delta.token_ids.len()),
            ChoiceEvent::Finished { .. } => {}
        }
        let Some(assembler) = self.assemblers.get_mut(index) else {
            return Err(ApiError::Render { reason: format!("choice {index} does not exist") });
        };
        let addition = assembler.handle(event);
        if let Some(reason) = addition.finish {
            let metrics = self.job.record.metrics();
            metrics.finished.with_label_values(&[reason]).inc();
            metrics.reasoning_tokens.inc_by(assembler.counts().reasoning as u64);
        }
        if addition.accepted && index.is_multiple_of(self.job.choices_per_prompt) {
            let Counts { prompt, cached, .. } = assembler.counts();
            self.job.record.metrics().prompt_tokens.inc_by(prompt as u64);
            self.job.record.metrics().cached_tokens.inc_by(cached as u64);
        }
        Ok(addition)
    }

    fn fail(&mut self, error: ApiError) -> ApiError {
        self.job.record.set_code(error.status().as_u16());
        error
    }

    /// Every prompt counts once, however many choices it has.
    fn usage(&self) -> Usage {
        let mut total = Counts::default();
        for (index, assembler) in self.assemblers.iter().enumerate() {
            let counts = assembler.counts();
            total.generated += counts.generated;
            total.reasoning += counts.reasoning;
            if index.is_multiple_of(self.job.choices_per_prompt) {
                total.prompt += counts.prompt;
                total.cached += counts.cached;
            }
        }
        Usage::from(total)
    }
}

impl WholeChoice {
    /// Returns the bytes of text added.
    fn add(&mut self, addition: Addition) -> usize {
        use crate::reasoning::Piece;
        let mut bytes = 0;
        for piece in addition.pieces {
            let (kept, text) = match piece {
                Piece::Reasoning(text) => (&mut self.reasoning, text),
                Piece::Content(text) => (&mut self.content, text),
            };
            bytes += text.len();
            kept.push_str(&text);
        }
        self.logprobs.extend(addition.logprobs);
        if let Some(finish) = addition.finish {
            self.finish = finish;
        }
        bytes
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn render_error(error: serde_json::Error) -> ApiError {
    ApiError::Render { reason: error.to_string() }
}
