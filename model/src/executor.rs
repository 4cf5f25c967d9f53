//! What an engine drives: one forward pass that pauses at every MoE layer, and the experts behind the pause.
//!
//! Object safe, so that an engine is written once for every backend. Rows cross this seam as bytes in the
//! backend's [`RowFormat`], local ones too: that is why a transcript does not depend on where experts live.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A forward pass over a batch of sequences. One pass is open at a time.
pub trait Executor: Send {
    /// Shape of the paged KV cache that the segments' block tables index.
    fn cache_shape(&self) -> CacheShape;

    /// Opens a pass and runs it to the first MoE layer's gate, or to the end of a dense model.
    ///
    /// # Errors
    /// [`ExecutorError`] when a segment does not fit the cache or the context; the pass is then not open.
    fn begin(&mut self, batch: Batch) -> Result<Progress, ExecutorError>;

    /// Whether there is a layer that drafts.
    fn drafting(&self) -> Drafting {
        Drafting::Absent
    }

    /// Opens a pass through the drafting layer alone; it pauses and ends like any other.
    ///
    /// # Errors
    /// [`ExecutorError`] when a segment does not fit, or there is no such layer; the pass is then not open.
    fn begin_draft(&mut self, _segments: Vec<DraftSegment>) -> Result<Progress, ExecutorError> {
        Err(ExecutorError::NoDraftLayer)
    }

    /// Work of the paused layer that needs no routed expert (the shared experts). Call it while remote experts
    /// compute; `resume` calls it when nobody did.
    fn overlap(&mut self);

    /// Adds the routed experts' outputs and runs on to the next pause.
    ///
    /// `outputs[i]` is the output row for `routes[i]` of the pause, in the backend's row format. They are summed
    /// in f32 in that order.
    ///
    /// # Errors
    /// [`ExecutorError`] when the outputs do not fit the pause; the pass stays paused.
    fn resume(&mut self, outputs: &[&[u8]]) -> Result<Progress, ExecutorError>;

    /// What this executor counts its layers with.
    fn pulse(&self) -> Pulse;

    /// Drops the open pass. Cache positions it wrote are overwritten by the next pass that covers them.
    fn abandon(&mut self);
}

/// Counts finished pieces of work, so that another thread sees from outside that a long pass still moves.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// One more piece is done.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Pieces so far; it wraps.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The routed experts that are in memory. Calls are stateless and may run at the same time as a pass.
pub trait Experts: Send + Sync + fmt::Debug {
    /// Format of rows in and out.
    fn row_format(&self) -> RowFormat;

    /// Values in one row (the hidden size).
    fn row_length(&self) -> usize;

    /// Everything that is resident, ascending by layer and expert.
    fn resident(&self) -> Vec<ExpertAddress>;

    /// Runs rows through experts of one layer and returns one output row for each (expert, row) pair, in the
    /// order of `calls`. A row's output does not depend on the other rows.
    ///
    /// # Errors
    /// [`ExpertError`] for an expert that is not resident, a row index out of range, or a payload of another size.
    fn compute(
        &self,
        layer: u32,
        calls: &[ExpertCall],
        rows: &[u8],
    ) -> Result<Vec<u8>, ExpertError>;
}

/// Shared handle to the resident experts; replaced as a whole when an assignment changes.
pub type SharedExperts = Arc<dyn Experts>;

/// One routed expert of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpertAddress {
    pub layer: u32,
    pub expert: u32,
}

/// Rows for one expert, as indices into a payload of distinct rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertCall {
    pub expert: u32,
    pub rows: Vec<u32>,
}

/// How one row travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// Little-endian f32: the reference path.
    F32,
    /// Little-endian bf16.
    Bf16,
}

impl RowFormat {
    /// Bytes of one row of `length` values.
    pub fn row_bytes(self, length: usize) -> usize {
        match self {
            Self::F32 => length * 4,
            Self::Bf16 => length * 2,
        }
    }
}

/// Paged cache: `block_count` blocks of `block_tokens` positions each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    pub block_tokens: usize,
    pub block_count: usize,
}

/// Index of a cache block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// One pass's work: some decode tokens, some prefill chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub segments: Vec<Segment>,
}

/// Consecutive tokens of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub token_ids: Vec<u32>,
    /// Position of the first of them; everything before is in the cache already.
    pub position: usize,
    /// The sequence's blocks in order, covering at least `position + token_ids.len()` positions.
    pub blocks: Vec<BlockId>,
    pub logits: LogitsWanted,
}

/// Whether an executor has a multi-token-prediction layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drafting {
    Present,
    Absent,
}

/// Consecutive positions of one sequence in the drafting layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftSegment {
    /// Row of the first position's state. The last pass that ended left one state for each of its tokens or, if it
    /// was a draft pass, for each row of logits.
    pub state_row: usize,
    /// For each position the token after it.
    pub next: Segment,
}

/// Which of a segment's tokens are to be sampled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsWanted {
    LastToken,
    /// So many of the last tokens, the first of them first; at most the segment's length.
    LastTokens(usize),
    No,
}

impl LogitsWanted {
    /// Rows of logits for a segment of `length` tokens.
    pub fn rows(self, length: usize) -> usize {
        match self {
            Self::LastToken => 1.min(length),
            Self::LastTokens(count) => count.min(length),
            Self::No => 0,
        }
    }
}

/// Where a pass stands.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Paused: these rows need routed experts.
    Experts(RoutedRows),
    /// Finished; the pass is closed.
    Finished(Logits),
}

/// Rows of one MoE layer and the experts each goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedRows {
    pub layer: u32,
    pub row_count: usize,
    /// `[row_count, row bytes]`.
    pub rows: Vec<u8>,
    /// Row by row, each row's experts in gate order (best first).
    pub routes: Vec<Route>,
}

/// One (row, expert) pair. Its weight stays inside the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub row: u32,
    pub expert: u32,
}

/// `[rows that were wanted, vocab_size]`, f32, in segment order.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    pub vocab_size: usize,
    pub values: Vec<f32>,
}

/// A pass that cannot go on; ours to fix, so the caller fails the sequences and goes on with others.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error("segment {segment} needs {needed} cache blocks and brought {brought}")]
    BlocksMissing { segment: usize, needed: usize, brought: usize },
    #[error("segment {segment} has no tokens")]
    EmptySegment { segment: usize },
    #[error("block {block} is outside the cache of {block_count} blocks")]
    BlockOutOfRange { block: u32, block_count: usize },
    #[error("token id {token_id} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange { token_id: u32, vocab_size: usize },
    #[error("position {position} is past the context of {context_length} tokens")]
    PastContext { position: usize, context_length: usize },
    #[error("{given} expert outputs for {expected} routes")]
    OutputCount { given: usize, expected: usize },
    #[error("expert output {index} has {given} bytes, not {expected}")]
    OutputSize { index: usize, given: usize, expected: usize },
    #[error("the model has no layer that drafts")]
    NoDraftLayer,
    #[error("segment {segment} starts from state {row}, and the last pass left {state_count}")]
    StateMissing { segment: usize, row: usize, state_count: usize },
    #[error("no pass is open")]
    NoPassOpen,
    #[error("a pass is open already")]
    PassOpen,
}

/// An expert call that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpertError {
    #[error("expert {expert} of layer {layer} is not resident")]
    NotResident { layer: u32, expert: u32 },
    #[error("row {row} is outside the {row_count} rows sent")]
    RowOutOfRange { row: u32, row_count: usize },
    #[error("the payload has {given} bytes, which is not a multiple of a row's {row_bytes}")]
    PayloadSize { given: usize, row_bytes: usize },
}
