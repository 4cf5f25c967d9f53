//! One forward pass: begin, then for each MoE layer pause, exchange, resume, until the logits are there.

use crate::engine::Now;
use crate::exchange::Exchange;
use crate::request::SequenceId;
use crate::scheduler::Planned;
use model::executor::{Batch, Executor, ExecutorError, Logits, Progress, Segment};

/// The executor, the exchange, and the pass that is open on both.
pub(crate) struct Step {
    executor: Box<dyn Executor>,
    exchange: Exchange,
    open: Option<OpenPass>,
}

/// A pass that pauses.
#[derive(Debug)]
struct OpenPass {
    planned: Vec<Planned>,
    stage: Stage,
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
    /// It is over; one row of logits for each planned part that wanted them, in order.
    Finished { planned: Vec<Planned>, logits: Logits },
    /// It is over and these sequences cannot go on. Nothing of it counts as computed.
    Failed { sequences: Vec<SequenceId>, error: ExecutorError },
}

impl Step {
    pub(crate) fn new(executor: Box<dyn Executor>, exchange: Exchange) -> Self {
        Self { executor, exchange, open: None }
    }

    pub(crate) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    pub(crate) fn exchange_mut(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    /// The parts of the open pass.
    pub(crate) fn planned(&self) -> Option<&[Planned]> {
        self.open.as_ref().map(|open| open.planned.as_slice())
    }

    /// Opens a pass; the batch's segments are the planned parts.
    pub(crate) fn begin(&mut self, now: Now, planned: Vec<Planned>, batch: Batch) -> Stepped {
        // Kept because an error does not give the batch back.
        let segments = batch.segments.clone();
        match self.executor.begin(batch) {
            Ok(progress) => self.take(now, planned, progress),
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
            return Stepped::Waiting { until: self.exchange.wake_at(now) };
        }
        self.resume(now)
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
        let planned = self.open.take().map(|open| open.planned).unwrap_or_default();
        match result {
            Ok(progress) => self.take(now, planned, progress),
            Err(error) => {
                self.executor.abandon();
                let sequences = planned.iter().map(|part| part.sequence).collect();
                Stepped::Failed { sequences, error }
            }
        }
    }

    fn take(&mut self, now: Now, planned: Vec<Planned>, progress: Progress) -> Stepped {
        match progress {
            Progress::Experts(routed) => {
                self.exchange.start(now, routed);
                self.open = Some(OpenPass { planned, stage: Stage::Overlap });
                Stepped::Ran
            }
            Progress::Finished(logits) => Stepped::Finished { planned, logits },
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
        | ExecutorError::NoPassOpen
        | ExecutorError::PassOpen => true,
    };
    let found: Vec<usize> =
        segments.iter().enumerate().filter(is_at_fault).map(|(index, _)| index).collect();
    if found.is_empty() { (0..segments.len()).collect() } else { found }
}
