//! The engine: requests in, tokens out, one forward pass at a time.
//!
//! The driver's loop, one thread:
//! ```text
//! loop {
//!     take commands and frames: submit / cancel / handle_*
//!     send every poll_transmit, deliver every poll_event
//!     match advance(now) { Ran → again, Waiting(until) → block for input until then, Idle → block for input }
//! }
//! ```

mod drafting;

use self::drafting::Drafting;
use crate::exchange::{CallFailure, Exchange, PeerId, Placement, Transmit};
use crate::output::Finish;
use crate::request::{Request, SequenceEvent, SequenceId};
use crate::scheduler::{Admitted, Planned, Scheduler, SchedulerLimits};
use crate::sequence::Sequence;
use crate::speculation::{DraftTotals, Way};
use crate::step::{Step, Stepped, Work};
use model::executor::{self, Batch, Executor, Logits, Segment, SharedExperts};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Time since an origin of the driver's choosing; it never goes back.
pub type Now = Duration;

/// Bounds of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Longest sequence, prompt and answer together.
    pub context_length: usize,
    /// Tokens in one step.
    pub step_tokens_max: usize,
    /// Sequences that run at once.
    pub sequences_max: usize,
    /// Sequences that wait beside those that may run.
    pub queue_max: usize,
    /// How long one copy may take before the next one is asked too.
    pub expert_deadline: Duration,
    /// Tokens guessed ahead for a sequence in one step, if the model has a layer for it; 0 turns it off.
    pub draft_tokens_max: usize,
    /// The model's own end tokens.
    pub end_token_ids: Vec<u32>,
}

/// Token ids → text; implemented by the model's tokeniser.
pub trait Vocabulary: Send + Sync {
    /// The bytes of one token, which need not be whole characters. Special tokens have none.
    fn token_bytes(&self, token_id: u32) -> Vec<u8>;
    /// Ids are below this; the model's rows from here on (padding) are never drawn.
    fn vocab_size(&self) -> usize;
}

/// Counters and gauges, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineLoad {
    pub sequences_running: usize,
    pub sequences_waiting: usize,
    /// By sequences; blocks that only keep a prefix for later count as free.
    pub kv_blocks_used: usize,
    pub kv_blocks_total: usize,
    pub prompt_tokens_total: u64,
    /// Prompt tokens whose computed state was in the cache.
    pub cached_tokens_total: u64,
    pub generated_tokens_total: u64,
    pub preemptions_total: u64,
    /// (row, expert) pairs computed here.
    pub expert_rows_local_total: u64,
    /// (row, expert) pairs whose output came from a peer.
    pub expert_rows_remote_total: u64,
    /// Calls that failed or were late while their rows were still missing.
    pub expert_failovers_total: u64,
    /// Guessed tokens that steps looked at.
    pub drafted_tokens_total: u64,
    /// Guessed tokens that were right.
    pub accepted_tokens_total: u64,
}

/// What `advance` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Something; call again.
    Ran,
    /// A pass waits for peers; come back at this time at the latest.
    Waiting { until: Now },
    /// No sequence has work.
    Idle,
}

/// A request that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("the queue holds {queue_max} sequences already")]
    QueueFull { queue_max: usize },
    #[error(
        "the prompt has {prompt_tokens} tokens and the context holds {context_length}; shorten the prompt"
    )]
    PromptTooLong { prompt_tokens: usize, context_length: usize },
    #[error("the prompt is empty; send at least one token")]
    PromptEmpty,
    #[error("token id {token_id} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange { token_id: u32, vocab_size: usize },
    #[error(
        "the prompt needs {needed} KV blocks and the cache has {total}; shorten the prompt or enlarge the cache"
    )]
    NeverFits { needed: usize, total: usize },
}

/// The state machine.
pub struct Engine {
    config: EngineConfig,
    vocabulary: Arc<dyn Vocabulary>,
    scheduler: Scheduler,
    step: Step,
    sequences: BTreeMap<SequenceId, Sequence>,
    events: VecDeque<(SequenceId, SequenceEvent)>,
    next_sequence: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    generated_tokens: u64,
    passes: u64,
    drafting: Drafting,
    drafts: DraftTotals,
}

impl Engine {
    /// All peers are down at first, see [`Engine::handle_peer_up`].
    pub fn new(
        mut config: EngineConfig,
        executor: Box<dyn Executor>,
        experts: SharedExperts,
        vocabulary: Arc<dyn Vocabulary>,
        placement: Placement,
    ) -> Self {
        let limits = SchedulerLimits {
            step_tokens_max: config.step_tokens_max,
            sequences_max: config.sequences_max,
        };
        let scheduler = Scheduler::new(limits, executor.cache_shape());
        match executor.drafting() {
            executor::Drafting::Present => {}
            executor::Drafting::Absent => config.draft_tokens_max = 0,
        }
        let exchange = Exchange::new(placement, experts, config.expert_deadline);
        Self {
            config,
            vocabulary,
            scheduler,
            step: Step::new(executor, exchange),
            sequences: BTreeMap::new(),
            events: VecDeque::new(),
            next_sequence: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            generated_tokens: 0,
            passes: 0,
            drafting: Drafting::default(),
            drafts: DraftTotals::default(),
        }
    }

    // -- mutators

    /// Queues a request. When its emitted tokens are the end already, it finishes at once.
    ///
    /// # Errors
    /// [`SubmitError`] when it can never work or the queue is full.
    pub fn submit(&mut self, mut request: Request) -> Result<SequenceId, SubmitError> {
        self.check_tokens(&request)?;
        let prompt_tokens = request.prompt_token_ids.len();
        let room = self.config.context_length - prompt_tokens;
        // The last token of an answer is never computed with, so it needs no place in the cache.
        let cached = (self.scheduler.blocks().positions() + 1).saturating_sub(prompt_tokens);
        request.stop.max_tokens = request.stop.max_tokens.min(room).min(cached.max(1));
        let computed = prompt_tokens + request.stop.max_tokens.saturating_sub(1);
        let (sequence, finish) =
            Sequence::new(request, &self.config.end_token_ids, &*self.vocabulary);
        if finish.is_none() {
            self.check_room(computed)?;
        }
        let id = SequenceId(self.next_sequence);
        self.next_sequence += 1;
        self.prompt_tokens += prompt_tokens as u64;
        match finish {
            Some(finish) => self.events.push_back((id, finished(finish))),
            None => {
                self.scheduler.add(id, sequence.token_ids().len());
                self.sequences.insert(id, sequence);
            }
        }
        Ok(id)
    }

    /// Ends a sequence without an event; unknown ids are ignored.
    pub fn cancel(&mut self, sequence: SequenceId) {
        self.remove(sequence);
        self.events.retain(|(id, _)| *id != sequence);
    }

    /// Runs compute until the next pause. Never blocks.
    pub fn advance(&mut self, now: Now) -> Advance {
        let stepped = match self.step.work() {
            None => match self.begin_draft(now).or_else(|| self.begin_step(now)) {
                Some(stepped) => stepped,
                None => {
                    self.rest();
                    return Advance::Idle;
                }
            },
            // A pass for nobody would go on waiting for experts that may never come.
            Some(work) if !work.any(|sequence| self.is_alive(sequence)) => {
                self.step.abandon();
                return Advance::Ran;
            }
            Some(_) => self.step.advance(now),
        };
        match stepped {
            Stepped::Ran => {}
            Stepped::Waiting { until } => return Advance::Waiting { until },
            Stepped::Finished { work: Work::Step(planned), logits } => {
                self.finish_pass(now, &planned, &logits);
            }
            Stepped::Finished { work: Work::Draft { parts, .. }, logits } => {
                self.finish_draft(&parts, &logits);
            }
            Stepped::DraftFailed => self.pause_drafting(),
            Stepped::Failed { sequences, error } => {
                for sequence in sequences {
                    self.fail(sequence, format!("the forward pass failed: {error}"));
                }
            }
        }
        Advance::Ran
    }

    // -- what happened outside

    /// A peer's answer: the output rows in the order of the call's (expert, row) pairs, or why there are none.
    /// Answers to unknown or settled calls are ignored.
    pub fn handle_reply(
        &mut self,
        now: Now,
        peer: &PeerId,
        call_id: u64,
        reply: Result<Vec<u8>, CallFailure>,
    ) {
        self.step.exchange_mut().handle_reply(now, peer, call_id, reply);
    }

    /// A stream to the peer is open: it may be asked (again).
    pub fn handle_peer_up(&mut self, now: Now, peer: &PeerId) {
        self.step.exchange_mut().handle_peer_up(now, peer);
    }

    /// The stream to the peer broke: every call on it has failed.
    pub fn handle_peer_down(&mut self, now: Now, peer: &PeerId, reason: &str) {
        self.step.exchange_mut().handle_peer_down(now, peer, reason);
    }

    /// A new plan: other copies, or our own experts changed.
    pub fn handle_placement(&mut self, now: Now, placement: Placement, experts: SharedExperts) {
        self.step.exchange_mut().handle_placement(now, placement, experts);
    }

    // -- what to do next

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.step.exchange_mut().poll_transmit()
    }

    pub fn poll_event(&mut self) -> Option<(SequenceId, SequenceEvent)> {
        self.events.pop_front()
    }

    // -- getters

    pub fn load(&self) -> EngineLoad {
        let exchange = self.step.exchange().totals();
        EngineLoad {
            sequences_running: self.scheduler.running_count(),
            sequences_waiting: self.scheduler.waiting_count(),
            kv_blocks_used: self.scheduler.blocks().used_count(),
            kv_blocks_total: self.scheduler.blocks().total(),
            prompt_tokens_total: self.prompt_tokens,
            cached_tokens_total: self.cached_tokens,
            generated_tokens_total: self.generated_tokens,
            preemptions_total: self.scheduler.preemptions(),
            expert_rows_local_total: exchange.rows_local,
            expert_rows_remote_total: exchange.rows_remote,
            expert_failovers_total: exchange.failovers,
            drafted_tokens_total: self.drafts.drafted,
            accepted_tokens_total: self.drafts.accepted,
        }
    }

    /// Steps that came to their end; draft passes are not counted.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    /// Peers that failed or are late, with the reason.
    pub fn troubles(&self) -> Vec<(PeerId, String)> {
        self.step.exchange().troubles()
    }

    // -- internals

    fn check_tokens(&self, request: &Request) -> Result<(), SubmitError> {
        let prompt_tokens = request.prompt_token_ids.len();
        let context_length = self.config.context_length;
        if prompt_tokens == 0 {
            return Err(SubmitError::PromptEmpty);
        }
        // An answer needs room for a token at least.
        if prompt_tokens >= context_length {
            return Err(SubmitError::PromptTooLong { prompt_tokens, context_length });
        }
        let vocab_size = self.vocabulary.vocab_size();
        let mut token_ids = request.prompt_token_ids.iter().chain(&request.emitted_token_ids);
        match token_ids.find(|token_id| **token_id as usize >= vocab_size) {
            Some(&token_id) => Err(SubmitError::TokenOutOfRange { token_id, vocab_size }),
            None => Ok(()),
        }
    }

    /// `computed` positions must fit the cache when nobody else runs.
    fn check_room(&self, computed: usize) -> Result<(), SubmitError> {
        let needed = self.scheduler.blocks().blocks_for(computed);
        let total = self.scheduler.blocks().total();
        if needed > total {
            return Err(SubmitError::NeverFits { needed, total });
        }
        // New ones wait until the next step even when they may run in it.
        let queue_max = self.config.queue_max;
        if self.sequences.len() >= queue_max.saturating_add(self.config.sequences_max) {
            return Err(SubmitError::QueueFull { queue_max });
        }
        Ok(())
    }

    fn is_alive(&self, sequence: SequenceId) -> bool {
        self.sequences.contains_key(&sequence)
    }

    fn report_admitted(&mut self) {
        while let Some(Admitted { sequence: id, cached }) = self.scheduler.poll_admitted() {
            let Some(sequence) = self.sequences.get(&id) else { continue };
            // A replay finds emitted tokens too, which are no part of the prompt.
            let cached_tokens = cached.min(sequence.prompt_tokens());
            self.cached_tokens += cached_tokens as u64;
            self.events.push_back((id, SequenceEvent::Admitted { cached_tokens }));
        }
    }

    fn begin_step(&mut self, now: Now) -> Option<Stepped> {
        let sequences = &self.sequences;
        let planned = self.scheduler.plan(|id| token_ids(sequences, id));
        self.report_admitted();
        if planned.is_empty() {
            return None;
        }
        let segments = planned.iter().map(|part| self.segment(part)).collect();
        Some(self.step.begin(now, planned, Batch { segments }))
    }

    fn segment(&self, part: &Planned) -> Segment {
        let token_ids = token_ids(&self.sequences, part.sequence);
        let known = token_ids.iter().skip(part.position).take(part.count - part.drafts);
        Segment {
            token_ids: known.chain(self.drafts(part)).copied().collect(),
            position: part.position,
            blocks: self.scheduler.block_table(part.sequence).to_vec(),
            logits: part.logits,
        }
    }

    fn finish_pass(&mut self, now: Now, planned: &[Planned], logits: &Logits) {
        self.passes += 1;
        let mut rows = logits.values.chunks_exact(logits.vocab_size.max(1));
        let way = self.way();
        let mut state_row = 0;
        for part in planned {
            let token_ids = token_ids(&self.sequences, part.sequence);
            self.scheduler.record_computed(part, token_ids);
            // Taken for cancelled sequences too, so that the others get their own.
            let wanted = part.logits.rows(part.count);
            let rows: Vec<&[f32]> = rows.by_ref().take(wanted).collect();
            if rows.len() < wanted {
                self.fail(part.sequence, "the forward pass gave too few logits".to_owned());
            }
            self.draw_while_right(part, &rows);
            if way == Way::Drafting {
                self.plan_draft(part, state_row);
            }
            state_row += part.count;
        }
        self.measure(now, planned, way);
    }

    /// Draws a token from each row, as long as the token before it is the one that the row was computed with.
    fn draw_while_right(&mut self, part: &Planned, rows: &[&[f32]]) {
        let id = part.sequence;
        let mut drafts = self.sequences.get_mut(&id).map(Sequence::take_drafts).unwrap_or_default();
        drafts.truncate(part.drafts);
        self.drafts.drafted += drafts.len() as u64;
        for (index, row) in rows.iter().enumerate() {
            let Some(token_id) = self.draw(id, row) else { return };
            let Some(draft) = drafts.get(index) else { return };
            let Some(sequence) = self.sequences.get_mut(&id) else { return };
            if *draft != token_id {
                return sequence.acceptance_mut().refused(index);
            }
            sequence.acceptance_mut().accepted(index);
            self.drafts.accepted += 1;
            self.scheduler.record_accepted(id);
        }
    }

    /// The next token of a sequence that goes on.
    fn draw(&mut self, id: SequenceId, logits: &[f32]) -> Option<u32> {
        let sequence = self.sequences.get_mut(&id)?;
        let known = logits.len().min(self.vocabulary.vocab_size());
        let drawn = match sequence.draw(&logits[..known], &*self.vocabulary) {
            Ok(drawn) => drawn,
            Err(error) => {
                self.fail(id, error.to_string());
                return None;
            }
        };
        let token_id = drawn.event.token_id;
        self.generated_tokens += 1;
        self.events.push_back((id, SequenceEvent::Token(drawn.event)));
        match drawn.finish {
            Some(finish) => {
                self.remove(id);
                self.events.push_back((id, finished(finish)));
                None
            }
            None => {
                self.scheduler.record_token(id);
                Some(token_id)
            }
        }
    }

    fn fail(&mut self, id: SequenceId, message: String) {
        if self.remove(id).is_some() {
            self.events.push_back((id, SequenceEvent::Failed { message }));
        }
    }

    fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        self.scheduler.remove(id);
        self.sequences.remove(&id)
    }
}

/// Prompt and answer so far; empty for a sequence that is gone.
fn token_ids(sequences: &BTreeMap<SequenceId, Sequence>, id: SequenceId) -> &[u32] {
    sequences.get(&id).map_or(&[], Sequence::token_ids)
}

fn finished(finish: Finish) -> SequenceEvent {
    let Finish { reason, stop_string, text } = finish;
    SequenceEvent::Finished { reason, stop_string, text }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("load", &self.load()).finish_non_exhaustive()
    }
}
