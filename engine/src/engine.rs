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

use crate::exchange::{CallFailure, PeerId, Placement, Transmit};
use crate::request::{Request, SequenceEvent, SequenceId};
use model::executor::{Executor, SharedExperts};
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
    /// Sequences that wait.
    pub queue_max: usize,
    /// How long one copy may take before the next one is asked too.
    pub expert_deadline: Duration,
    /// The model's own end tokens.
    pub end_token_ids: Vec<u32>,
}

/// Token ids → text; implemented by the model's tokeniser.
pub trait Vocabulary: Send + Sync {
    /// The bytes of one token, which need not be whole characters. Special tokens have none.
    fn token_bytes(&self, token_id: u32) -> Vec<u8>;
    fn vocab_size(&self) -> usize;
}

/// Counters and gauges, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineLoad {
    pub sequences_running: usize,
    pub sequences_waiting: usize,
    pub kv_blocks_used: usize,
    pub kv_blocks_total: usize,
    pub prompt_tokens_total: u64,
    pub generated_tokens_total: u64,
    pub preemptions_total: u64,
    pub expert_rows_local_total: u64,
    pub expert_rows_remote_total: u64,
    pub expert_failovers_total: u64,
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
    #[error("the prompt has {prompt_tokens} tokens and the context holds {context_length}; shorten the prompt")]
    PromptTooLong { prompt_tokens: usize, context_length: usize },
    #[error("the prompt is empty; send at least one token")]
    PromptEmpty,
    #[error("token id {token_id} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange { token_id: u32, vocab_size: usize },
    #[error("the sequence needs {needed} KV blocks and the cache has {total}; raise kvCache or lower max_tokens")]
    NeverFits { needed: usize, total: usize },
}

/// The state machine. Fields are private to the implementation.
pub struct Engine {
    _private: (),
}

#[allow(clippy::unimplemented, unused_variables, clippy::todo)]
impl Engine {
    pub fn new(
        config: EngineConfig,
        executor: Box<dyn Executor>,
        experts: SharedExperts,
        vocabulary: Arc<dyn Vocabulary>,
        placement: Placement,
    ) -> Self {
        todo!()
    }

    // -- mutators

    /// # Errors
    /// [`SubmitError`] when it can never work or the queue is full.
    pub fn submit(&mut self, request: Request) -> Result<SequenceId, SubmitError> {
        todo!()
    }

    /// Ends a sequence without an event; unknown ids are ignored.
    pub fn cancel(&mut self, sequence: SequenceId) {
        todo!()
    }

    /// Runs compute until the next pause. Never blocks.
    pub fn advance(&mut self, now: Now) -> Advance {
        todo!()
    }

    // -- what happened outside

    /// A peer's answer: the output rows in the order of the call's (expert, row) pairs, or why there are none.
    /// Answers to unknown or settled calls are ignored.
    pub fn handle_reply(&mut self, now: Now, peer: &PeerId, call_id: u64, reply: Result<Vec<u8>, CallFailure>) {
        todo!()
    }

    /// A stream to the peer is open: it may be asked (again).
    pub fn handle_peer_up(&mut self, now: Now, peer: &PeerId) {
        todo!()
    }

    /// The stream to the peer broke: every call on it has failed.
    pub fn handle_peer_down(&mut self, now: Now, peer: &PeerId, reason: &str) {
        todo!()
    }

    /// A new plan: other copies, or our own experts changed.
    pub fn handle_placement(&mut self, now: Now, placement: Placement, experts: SharedExperts) {
        todo!()
    }

    // -- what to do next

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }

    pub fn poll_event(&mut self) -> Option<(SequenceId, SequenceEvent)> {
        todo!()
    }

    // -- getters

    pub fn load(&self) -> EngineLoad {
        todo!()
    }

    /// Peers that failed or are late, with the reason.
    pub fn troubles(&self) -> Vec<(PeerId, String)> {
        todo!()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").finish_non_exhaustive()
    }
}
