//! One choice: a sequence on some home, continued on another one when the first is lost.
//!
//! The router keeps the prompt's token ids and every emitted one. After a loss it sends both to the next home, which
//! goes on exactly there, so that the client's stream loses, repeats and changes nothing.
//!
//! When a home counts as lost:
//! - its stream breaks, or ends before `Finished`: at once (connections are pinged);
//! - its status is lost or says FAILED *and* the stream has been silent for `Patience::silence_without_status`;
//! - the stream has been silent for `Patience::silence_with_status`, whatever the status says.
//!
//! A slow home with a living status is never left before the last of these: it would be just as slow elsewhere.

use crate::config::Patience;
use crate::homes::{Homes, Pick, Wanted};
use crate::link::{Link, Loss};
use crate::metrics::{Held, Metrics};
use proto::v1::generate_event::Event;
use proto::v1::generate_request::Input;
use proto::v1::{
    FinishReason, Finished, GenerateRequest, PromptAccepted, ReasoningState, TokenDelta, TokenIds,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Pauses while no home takes the sequence; a change among the homes ends a pause early.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);
/// Homes that one sequence may lose after they had accepted it. More is no accident: the sequence itself may be what
/// kills them, and must not go round for ever.
const LOSSES_MAX: u32 = 16;
/// Tokens of one choice: above any context, against a home that never ends.
const EMITTED_TOKENS_MAX: usize = 4 * 1024 * 1024;

/// Why a choice ended without `Finished`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerationError {
    #[error("{message}")]
    Refused { message: String, param: Option<String>, code: Option<String> },
    #[error("all homes are full; try again later")]
    HomesFull,
    #[error("{max} requests wait for a home already; try again later")]
    TooManyHeld { max: usize },
    #[error("no home could take the request within {seconds} s: {reason}")]
    NoHome { seconds: u64, reason: String },
    #[error("the request lost {losses} homes; the last one: {reason}")]
    Broken { losses: u32, reason: String },
    #[error("the answer exceeds {max} {unit}")]
    Endless { max: usize, unit: &'static str },
}

/// What a choice reports: `Accepted`, `Tokens`*, `Finished`.
#[derive(Clone, Debug, PartialEq)]
pub enum ChoiceEvent {
    Accepted {
        prompt_tokens: usize,
        cached_tokens: u32,
        reasoning: ReasoningState,
        /// How long it had waited for a home.
        held: Duration,
    },
    Tokens(TokenDelta),
    Finished {
        reason: FinishReason,
        text: String,
    },
}

/// What all choices share.
#[derive(Clone, Debug)]
pub struct Context {
    pub homes: Arc<Homes>,
    pub metrics: Arc<Metrics>,
    pub patience: Patience,
    /// New sequences that may wait for a home at once.
    pub held_max: usize,
}

/// One resumable sequence. Dropping it cancels the work on its home.
#[derive(Debug)]
pub struct Choice {
    context: Context,
    /// As the client sent it until a home accepts it, then with the prompt's and the emitted ids.
    request: GenerateRequest,
    progress: Progress,
    link: Option<Link>,
    /// Homes that just refused or lost it; forgotten after each pause.
    avoid: BTreeSet<String>,
    full: BTreeSet<String>,
    pause: Duration,
    /// Of the model that it began on; empty when the home's was not known.
    fingerprint: String,
    /// Since when no home has it, and its place among those that wait.
    waiting: Option<(Instant, Held)>,
    /// How long it waited before it was accepted.
    held: Duration,
    losses: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No home has taken it.
    New,
    /// Some home has taken it into its queue and has not let it run: nothing of it is known, but it was let in.
    Queued,
    /// Some home has; the client knows.
    Accepted,
    Ended,
}

impl Choice {
    pub fn new(context: Context, request: GenerateRequest) -> Self {
        Self {
            context,
            request,
            progress: Progress::New,
            link: None,
            avoid: BTreeSet::new(),
            full: BTreeSet::new(),
            pause: PAUSE_FIRST,
            fingerprint: String::new(),
            waiting: None,
            held: Duration::ZERO,
            losses: 0,
        }
    }

    /// The next event; `None` after `Finished` or an error.
    pub async fn next(&mut self) -> Option<Result<ChoiceEvent, GenerationError>> {
        if self.progress == Progress::Ended {
            return None;
        }
        let result = self.advance().await;
        if !matches!(result, Ok(ChoiceEvent::Accepted { .. } | ChoiceEvent::Tokens(_))) {
            self.progress = Progress::Ended;
            self.link = None;
        }
        Some(result)
    }

    async fn advance(&mut self) -> Result<ChoiceEvent, GenerationError> {
        loop {
            let Some(link) = &mut self.link else {
                self.open().await?;
                continue;
            };
            let received = match link.receive(&self.context.patience).await {
                Ok(Event::Prompt(prompt)) => self.handle_prompt(prompt),
                Ok(Event::Tokens(delta)) => self.handle_tokens(delta)?,
                Ok(Event::Finished(finished)) => Some(handle_finished(finished)),
                Err(loss) => {
                    self.handle_loss(loss)?;
                    None
                }
            };
            if let Some(event) = received {
                return Ok(event);
            }
        }
    }

    /// Asks homes until one takes the sequence.
    async fn open(&mut self) -> Result<(), GenerationError> {
        loop {
            let avoid = self.avoid.union(&self.full).cloned().collect();
            let changes = self.context.homes.changes();
            let reason = match self.context.homes.pick(self.wanted(), &avoid) {
                Pick::Home(lease) => {
                    let request = self.request.clone();
                    match Link::open(lease, request, &self.context.patience).await {
                        Ok(link) => {
                            self.handle_link(link);
                            return Ok(());
                        }
                        Err(loss) => self.handle_loss(loss)?,
                    }
                    continue;
                }
                Pick::AllAvoided if self.avoid.is_empty() && self.progress == Progress::New => {
                    return Err(GenerationError::HomesFull);
                }
                Pick::AllAvoided => "every ready home refused or lost the request".to_owned(),
                Pick::NoneReady(reason) => reason,
            };
            self.wait(changes, reason).await?;
        }
    }

    /// Pauses until it is worth asking again, and gives up after `Patience::hold`.
    async fn wait(
        &mut self,
        mut changes: watch::Receiver<u64>,
        reason: String,
    ) -> Result<(), GenerationError> {
        if self.waiting.is_none() {
            let max = match self.progress {
                Progress::New => self.context.held_max,
                // It was let in, and the client may have a part of its answer already.
                Progress::Queued | Progress::Accepted | Progress::Ended => usize::MAX,
            };
            let place = self.context.metrics.hold(max);
            let place = place.ok_or(GenerationError::TooManyHeld { max })?;
            self.waiting = Some((Instant::now(), place));
        }
        let held = self.held_for();
        let Some(left) = self.context.patience.hold.checked_sub(held) else {
            return Err(GenerationError::NoHome { seconds: held.as_secs(), reason });
        };
        let pause = match self.avoid.is_empty() && self.full.is_empty() {
            // Only a change among the homes helps.
            true => left,
            false => self.pause.min(left),
        };
        // Whether the time is up or something changed, the next thing to do is to look again.
        let _ = timeout(pause, changes.changed()).await;
        self.pause = (self.pause * 2).min(PAUSE_LAST);
        self.avoid.clear();
        self.full.clear();
        Ok(())
    }

    fn wanted(&self) -> Wanted<'_> {
        match self.progress {
            Progress::New | Progress::Queued => Wanted::New,
            Progress::Accepted | Progress::Ended => {
                Wanted::Continuing { fingerprint: &self.fingerprint }
            }
        }
    }

    fn held_for(&self) -> Duration {
        self.waiting.as_ref().map_or(Duration::ZERO, |(since, _)| since.elapsed())
    }

    fn handle_link(&mut self, link: Link) {
        if matches!(self.progress, Progress::New | Progress::Queued) {
            self.progress = Progress::Queued;
            self.held += self.held_for();
            link.fingerprint().clone_into(&mut self.fingerprint);
        }
        self.waiting = None;
        if self.progress == Progress::Accepted {
            self.context.metrics.resumes.inc();
            tracing::info!(
                request = self.request.request_id,
                home = link.agent_id(),
                emitted = self.request.emitted_token_ids.len(),
                "stream continues"
            );
        }
        self.link = Some(link);
    }

    fn handle_prompt(&mut self, prompt: PromptAccepted) -> Option<ChoiceEvent> {
        self.moved();
        if self.progress == Progress::Accepted {
            return None;
        }
        self.progress = Progress::Accepted;
        let event = ChoiceEvent::Accepted {
            prompt_tokens: prompt.prompt_token_ids.len(),
            cached_tokens: prompt.cached_tokens,
            reasoning: prompt.reasoning(),
            held: self.held,
        };
        self.request.input = Some(Input::PromptTokenIds(TokenIds { ids: prompt.prompt_token_ids }));
        Some(event)
    }

    fn handle_tokens(&mut self, delta: TokenDelta) -> Result<Option<ChoiceEvent>, GenerationError> {
        self.moved();
        self.request.emitted_token_ids.extend_from_slice(&delta.token_ids);
        if self.request.emitted_token_ids.len() > EMITTED_TOKENS_MAX {
            return Err(GenerationError::Endless { max: EMITTED_TOKENS_MAX, unit: "tokens" });
        }
        Ok(Some(ChoiceEvent::Tokens(delta)))
    }

    /// The sequence got further, so that the waits start anew.
    fn moved(&mut self) {
        self.pause = PAUSE_FIRST;
        self.avoid.clear();
        self.full.clear();
    }

    fn handle_loss(&mut self, loss: Loss) -> Result<(), GenerationError> {
        self.link = None;
        match loss {
            Loss::Refused { message, param, code } => {
                // A home does not know which endpoint the prompt came through.
                let chat = matches!(self.request.input, Some(Input::Chat(_)));
                let param = param.map(|param| match (param.as_str(), chat) {
                    ("messages", false) => "prompt".to_owned(),
                    _ => param,
                });
                Err(GenerationError::Refused { message, param, code })
            }
            Loss::Full { agent_id } => {
                self.full.insert(agent_id);
                Ok(())
            }
            Loss::Unavailable { agent_id, reason } => {
                tracing::debug!(request = self.request.request_id, agent_id, reason, "refused");
                self.avoid.insert(agent_id);
                Ok(())
            }
            Loss::Broken { agent_id, reason } => {
                tracing::warn!(request = self.request.request_id, agent_id, reason, "home lost");
                self.avoid.insert(agent_id);
                self.losses += 1;
                if self.losses > LOSSES_MAX {
                    return Err(GenerationError::Broken { losses: self.losses, reason });
                }
                Ok(())
            }
        }
    }
}

fn handle_finished(finished: Finished) -> ChoiceEvent {
    ChoiceEvent::Finished { reason: finished.reason(), text: finished.text }
}
