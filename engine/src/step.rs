//! One forward pass: begin, then for each MoE layer pause, exchange, resume, until the logits are there.

use crate::engine::Now;
use crate::exchange::Exchange;
use crate::request::SequenceId;
use crate::scheduler::Planned;
use crate::speculation::PATIENCE_SHARE;
use model::executor::{
    Batch, DraftSegment, Executor, ExecutorError, Logits, LogitsWanted, Progress, Segment,
};

/// The executor, the exchange, and the pass that is open on both.
pub(crate) struct Step {
    executor: Box<dyn Executor>,
    draft_patience: Now,
    exchange: Exchange,
    open: Option<OpenPass>,
}

/// A pass that pauses.
#[derive(Debug)]
struct OpenPass {
    work: Work,
    stage: Stage,
}

/// What a pass is for.
#[derive(Debug)]
pub(crate) enum Work {
    Step(Vec<Planned>),
    Draft { parts: Vec<DraftPart>, give_up_at: Now },
}

impl Work {
    /// Whether any of the pass's sequences satisfies the predicate.
    pub(crate) fn any(&self, mut predicate: impl FnMut(SequenceId) -> bool) -> bool {
        match self {
            Self::Step(planned) => planned.iter().any(|part| predicate(part.sequence)),
            Self::Draft { parts, .. } => parts.iter().any(|part| predicate(part.sequence)),
        }
    }
}

/// Positions of one sequence in a draft pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DraftPart {
    pub(crate) sequence: SequenceId,
    /// Row of the first position's state.
    pub(crate) state_row: usize,
    pub(crate) position: usize,
    /// For each position the token after it.
    pub(crate) token_ids: Vec<u32>,
    /// Tokens to guess from here on, one in this pass. 0: only the layer's cache is filled.
    pub(crate) drafts: usize,
}

impl DraftPart {
    pub(crate) fn logits(&self) -> LogitsWanted {
        if self.drafts > 0 { LogitsWanted::LastToken } else { LogitsWanted::No }
    }
}

/// Where a pause stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The peers have their rows; what we can compute ourselves comes now.
    Overlap,
    /// Only outputs are missing.
    Wait,
}

/// What became of the pass.
#[derive(Debug)]
pub(crate) enum Stepped {
    /// It is further on.
    Ran,
    /// It needs answers from peers.
    Waiting { until: Now },
    /// It is over; the rows of logits of each part that wanted them, in order.
    Finished { work: Work, logits: Logits },
    /// It is over and these sequences cannot go on. Nothing of it counts as computed.
    Failed { sequences: Vec<SequenceId>, error: ExecutorError },
    /// It was a draft pass, and it was given up.
    DraftFailed,
}

impl Step {
    pub(crate) fn new(executor: Box<dyn Executor>, exchange: Exchange) -> Self {
        let draft_patience = exchange.expert_deadline() / PATIENCE_SHARE;
        Self { executor, draft_patience, exchange, open: None }
    }

    pub(crate) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    pub(crate) fn exchange_mut(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    /// What the open pass is for.
    pub(crate) fn work(&self) -> Option<&Work> {
        self.open.as_ref().map(|open| &open.work)
    }

    /// Opens a pass; the batch's segments are the planned parts.
    pub(crate) fn begin(&mut self, now: Now, planned: Vec<Planned>, batch: Batch) -> Stepped {
        // Kept because an error does not give the batch back.
        let segments = batch.segments.clone();
        match self.executor.begin(batch) {
            Ok(progress) => self.take(now, Work::Step(planned), progress),
            Err(error) => {
                let at_fault = at_fault(&error, &segments);
                let sequences = at_fault
                    .into_iter()
                    .filter_map(|index| planned.get(index).map(|part| part.sequence))
                    .collect();
                Stepped::Failed { sequences, error }
            }
        }
    }

    /// Opens a draft pass; the segments are the parts.
    pub(crate) fn begin_draft(
        &mut self,
        now: Now,
        parts: Vec<DraftPart>,
        segments: Vec<DraftSegment>,
    ) -> Stepped {
        let work = Work::Draft { parts, give_up_at: now + self.draft_patience };
        match self.executor.begin_draft(segments) {
            Ok(progress) => self.take(now, work, progress),
            Err(_) => Stepped::DraftFailed,
        }
    }

    /// Goes on with the open pass: one layer's work at most.
    pub(crate) fn advance(&mut self, now: Now) -> Stepped {
        let Some(open) = &mut self.open else { return Stepped::Ran };
        self.exchange.advance(now);
        if open.stage == Stage::Overlap {
            open.stage = Stage::Wait;
            self.executor.overlap();
            self.exchange.compute_local(now);
            return Stepped::Ran;
        }
        if self.exchange.compute_local(now) || self.exchange.has_transmit() {
            return Stepped::Ran;
        }
        if !self.exchange.is_complete() {
            return self.wait(now);
        }
        self.resume(now)
    }

    /// A step waits for whoever may come; a draft pass waits a short while and only for those who were asked.
    fn wait(&mut self, now: Now) -> Stepped {
        let until = self.exchange.wake_at(now);
        match self.work() {
            Some(Work::Draft { give_up_at, .. }) => {
                let give_up_at = *give_up_at;
                if now >= give_up_at || self.exchange.is_stuck() {
                    self.abandon();
                    return Stepped::DraftFailed;
                }
                Stepped::Waiting { until: until.min(give_up_at) }
            }
            Some(Work::Step(_)) | None => Stepped::Waiting { until },
        }
    }

    /// Drops the open pass.
    pub(crate) fn abandon(&mut self) {
        self.executor.abandon();
        self.exchange.abandon();
        self.open = None;
    }

    fn resume(&mut self, now: Now) -> Stepped {
        let result = self.executor.resume(&self.exchange.outputs());
        self.exchange.abandon();
        let Some(OpenPass { work, .. }) = self.open.take() else { return Stepped::Ran };
        match (result, work) {
            (Ok(progress), work) => self.take(now, work, progress),
            (Err(error), Work::Step(planned)) => {
                self.executor.abandon();
                let sequences = planned.iter().map(|part| part.sequence).collect();
                Stepped::Failed { sequences, error }
            }
            (Err(_), Work::Draft { .. }) => {
                self.executor.abandon();
                Stepped::DraftFailed
            }
        }
    }

    fn take(&mut self, now: Now, work: Work, progress: Progress) -> Stepped {
        match progress {
            Progress::Experts(routed) => {
                self.exchange.start(now, routed);
                self.open = Some(OpenPass { work, stage: Stage::Overlap });
                Stepped::Ran
            }
            Progress::Finished(logits) => Stepped::Finished { work, logits },
        }
    }
}

/// The segments that an error is about; all of them when it does not say.
fn at_fault(error: &ExecutorError, segments: &[Segment]) -> Vec<usize> {
    let is_at_fault = |(index, segment): &(usize, &Segment)| match error {
        ExecutorError::BlocksMissing { segment, .. } | ExecutorError::EmptySegment { segment } => {
            index == segment
        }
        ExecutorError::BlockOutOfRange { block, .. } => {
            segment.blocks.iter().any(|owned| owned.0 == *block)
        }
        ExecutorError::TokenOutOfRange { token_id, .. } => segment.token_ids.contains(token_id),
        ExecutorError::PastContext { context_length, .. } => {
            segment.position + segment.token_ids.len() > *context_length
        }
        ExecutorError::OutputCount { .. }
        | ExecutorError::OutputSize { .. }
        | ExecutorError::NoDraftLayer
        | ExecutorError::StateMissing { .. }
        | ExecutorError::NoPassOpen
        | ExecutorError::PassOpen => true,
    };
    let found: Vec<usize> =
        segments.iter().enumerate().filter(is_at_fault).map(|(index, _)| index).collect();
    if found.is_empty() { (0..segments.len()).collect() } else { found }
}
