//! A sequence's events as the stream that `Generate` answers with.

use crate::driver::Commands;
use crate::limits::TOKENS_PER_DELTA_MAX;
use engine::request::{
    FinishReason, SequenceEvent, SequenceId, TokenEvent, TokenLogprob, TokenLogprobs,
};
use proto::v1::{self, GenerateEvent, generate_event::Event};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// Prompt first, tokens as they come, the end last. Dropping it early cancels the sequence.
#[derive(Debug)]
pub struct SequenceStream {
    /// Until the sequence leaves the queue.
    prompt: Option<v1::PromptAccepted>,
    events: mpsc::Receiver<SequenceEvent>,
    ready: VecDeque<Result<GenerateEvent, Status>>,
    guard: CancelGuard,
}

/// Cancels a sequence that has not ended.
#[derive(Debug)]
struct CancelGuard {
    commands: Commands,
    /// `None` once it has ended.
    running: Option<SequenceId>,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(sequence) = self.running.take() {
            self.commands.cancel(sequence);
        }
    }
}

impl SequenceStream {
    pub fn new(
        prompt: v1::PromptAccepted,
        sequence: SequenceId,
        events: mpsc::Receiver<SequenceEvent>,
        commands: Commands,
    ) -> Self {
        let guard = CancelGuard { commands, running: Some(sequence) };
        Self { prompt: Some(prompt), events, ready: VecDeque::new(), guard }
    }

    /// Everything that has happened as few messages: tokens that came together travel together.
    fn take(&mut self, events: Vec<SequenceEvent>) {
        let mut delta = v1::TokenDelta::default();
        for happened in events {
            match happened {
                SequenceEvent::Admitted { cached_tokens } => self.accept(cached_tokens),
                SequenceEvent::Token(token) => add_token(&mut delta, token),
                SequenceEvent::Finished { reason, stop_string, text } => {
                    // One that had ended before it came never left the queue.
                    self.accept(0);
                    self.flush(&mut delta);
                    let reason = finish_reason(reason).into();
                    let stop_string = stop_string.unwrap_or_default();
                    let finished = v1::Finished { reason, stop_string, text };
                    self.end(Ok(event(Event::Finished(finished))));
                }
                SequenceEvent::Failed { message } => {
                    self.flush(&mut delta);
                    self.end(Err(Status::internal(message)));
                }
            }
        }
        self.flush(&mut delta);
    }

    /// Sends the prompt, once.
    fn accept(&mut self, cached_tokens: usize) {
        if let Some(mut prompt) = self.prompt.take() {
            // At most the prompt's tokens, which fit.
            prompt.cached_tokens = u32::try_from(cached_tokens).unwrap_or(u32::MAX);
            self.ready.push_back(Ok(event(Event::Prompt(prompt))));
        }
    }

    fn flush(&mut self, delta: &mut v1::TokenDelta) {
        if !delta.token_ids.is_empty() {
            self.ready.push_back(Ok(event(Event::Tokens(std::mem::take(delta)))));
        }
    }

    fn end(&mut self, last: Result<GenerateEvent, Status>) {
        self.guard.running = None;
        self.ready.push_back(last);
    }
}

impl Stream for SequenceStream {
    type Item = Result<GenerateEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(ready) = self.ready.pop_front() {
            return Poll::Ready(Some(ready));
        }
        if self.guard.running.is_none() {
            return Poll::Ready(None);
        }
        let mut events = Vec::new();
        let count = ready!(self.events.poll_recv_many(context, &mut events, TOKENS_PER_DELTA_MAX));
        if count == 0 {
            self.end(Err(Status::unavailable("the engine stopped; send the request again")));
        }
        self.take(events);
        Poll::Ready(self.ready.pop_front())
    }
}

fn event(event: Event) -> GenerateEvent {
    GenerateEvent { event: Some(event) }
}

fn add_token(delta: &mut v1::TokenDelta, token: TokenEvent) {
    let TokenEvent { token_id, text, logprobs } = token;
    delta.token_ids.push(token_id);
    delta.text.push_str(&text);
    // A token's text is far below 4 GiB.
    delta.text_bytes.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
    delta.logprobs.extend(logprobs.map(|TokenLogprobs { chosen, top }| v1::TokenLogprobs {
        chosen: Some(wire_logprob(chosen)),
        top: top.into_iter().map(wire_logprob).collect(),
    }));
}

fn wire_logprob(logprob: TokenLogprob) -> v1::TokenLogprob {
    let TokenLogprob { token_id, logprob, bytes } = logprob;
    v1::TokenLogprob { token_id, logprob, bytes: bytes.into() }
}

fn finish_reason(reason: FinishReason) -> v1::FinishReason {
    match reason {
        FinishReason::Stop => v1::FinishReason::Stop,
        FinishReason::Length => v1::FinishReason::Length,
    }
}
