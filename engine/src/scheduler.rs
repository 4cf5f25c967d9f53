//! Continuous batching: which sequences run in the next step, and how many tokens of each.
//!
//! Knows lengths and blocks, not tokens. Priority is arrival: a sequence that runs keeps its blocks unless an older
//! one needs them; then the youngest gives all of its own back and is computed again later. So the oldest always
//! gets on, and everything ends.

use crate::blocks::BlockAllocator;
use crate::request::SequenceId;
use model::executor::{BlockId, CacheShape, LogitsWanted};
use std::collections::{BTreeMap, BTreeSet};

/// Bounds of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    pub step_tokens_max: usize,
    pub sequences_max: usize,
}

/// Tokens of one sequence in the next step: `count` of them from `position` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub sequence: SequenceId,
    pub position: usize,
    pub count: usize,
    /// Wanted when these are the last tokens that are known.
    pub logits: LogitsWanted,
}

/// Waiting and running sequences. Ids grow with arrival.
#[derive(Clone, Debug)]
pub struct Scheduler {
    limits: SchedulerLimits,
    blocks: BlockAllocator,
    waiting: BTreeSet<SequenceId>,
    running: BTreeSet<SequenceId>,
    entries: BTreeMap<SequenceId, Entry>,
    preemptions: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Tokens known: prompt and answer.
    length: usize,
    /// Positions in the cache, from the first on.
    cached: usize,
    /// Length when it was let run. From there on it decodes: one token makes the next one known.
    prefill: usize,
    /// Covers the whole length while running, empty while waiting.
    blocks: Vec<BlockId>,
}

impl Entry {
    fn missing(&self) -> usize {
        self.length - self.cached
    }

    fn is_decoding(&self) -> bool {
        self.cached >= self.prefill
    }
}

impl Scheduler {
    pub fn new(limits: SchedulerLimits, shape: CacheShape) -> Self {
        let step_tokens_max = limits.step_tokens_max.max(1);
        // Each running sequence needs a token in each step, so that no sequence decodes in turns.
        let sequences_max = limits.sequences_max.clamp(1, step_tokens_max);
        Self {
            limits: SchedulerLimits { step_tokens_max, sequences_max },
            blocks: BlockAllocator::new(shape),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            entries: BTreeMap::new(),
            preemptions: 0,
        }
    }

    // -- getters

    pub fn blocks(&self) -> &BlockAllocator {
        &self.blocks
    }

    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// The sequence's blocks in order; empty unless it runs.
    pub fn block_table(&self, sequence: SequenceId) -> &[BlockId] {
        self.entries.get(&sequence).map_or(&[], |entry| &entry.blocks)
    }

    // -- mutators

    /// Queues a sequence of `length` known tokens. Its id must be higher than all before.
    pub fn add(&mut self, sequence: SequenceId, length: usize) {
        self.entries
            .insert(sequence, Entry { length, cached: 0, prefill: length, blocks: Vec::new() });
        self.waiting.insert(sequence);
    }

    /// The sequence ended: its blocks are free.
    pub fn remove(&mut self, sequence: SequenceId) {
        if let Some(mut entry) = self.entries.remove(&sequence) {
            self.blocks.release(&mut entry.blocks);
        }
        self.waiting.remove(&sequence);
        self.running.remove(&sequence);
    }

    /// A planned part was computed: its positions are in the cache.
    pub fn record_computed(&mut self, planned: &Planned) {
        if let Some(entry) = self.entries.get_mut(&planned.sequence) {
            entry.cached = planned.position + planned.count;
        }
    }

    /// One more token is known.
    pub fn record_token(&mut self, sequence: SequenceId) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.length += 1;
        }
    }

    /// The next step: one token of each sequence that decodes, then prefill chunks, oldest first. Empty when nothing
    /// has work. The same again until something is recorded.
    pub fn plan(&mut self) -> Vec<Planned> {
        self.secure_blocks();
        self.admit();
        let mut budget = self.limits.step_tokens_max;
        let mut plan = Vec::new();
        let (decoding, prefilling): (Vec<SequenceId>, Vec<SequenceId>) =
            self.running.iter().partition(|sequence| self.is_decoding(**sequence));
        for sequence in decoding.into_iter().chain(prefilling) {
            let count = self.missing(sequence).min(budget);
            if count > 0 {
                budget -= count;
                plan.extend(self.planned(sequence, count));
            }
        }
        plan
    }

    // -- internals

    fn missing(&self, sequence: SequenceId) -> usize {
        self.entries.get(&sequence).map_or(0, Entry::missing)
    }

    fn is_decoding(&self, sequence: SequenceId) -> bool {
        self.entries.get(&sequence).is_some_and(Entry::is_decoding)
    }

    fn planned(&self, sequence: SequenceId, count: usize) -> Option<Planned> {
        let entry = self.entries.get(&sequence)?;
        let logits =
            if count == entry.missing() { LogitsWanted::LastToken } else { LogitsWanted::No };
        Some(Planned { sequence, position: entry.cached, count, logits })
    }

    /// Blocks for every running sequence's whole length, oldest first, at the cost of the youngest.
    fn secure_blocks(&mut self) {
        let mut next = self.running.first().copied();
        while let Some(sequence) = next {
            while !self.extend(sequence) {
                // Ends: at the latest the sequence preempts itself.
                self.preempt_youngest();
            }
            next = self.running.range(SequenceId(sequence.0 + 1)..).next().copied();
        }
    }

    /// Whether the sequence has blocks for its whole length now, or no longer runs.
    fn extend(&mut self, sequence: SequenceId) -> bool {
        if !self.running.contains(&sequence) {
            return true;
        }
        match self.entries.get_mut(&sequence) {
            Some(entry) => self.blocks.extend(&mut entry.blocks, entry.length).is_ok(),
            None => true,
        }
    }

    fn preempt_youngest(&mut self) {
        if let Some(sequence) = self.running.pop_last() {
            if let Some(entry) = self.entries.get_mut(&sequence) {
                self.blocks.release(&mut entry.blocks);
                entry.cached = 0;
                entry.prefill = entry.length;
            }
            self.waiting.insert(sequence);
            self.preemptions += 1;
        }
    }

    /// Lets waiting sequences run, oldest first, while all that is known of them fits the free blocks. Nobody
    /// overtakes the oldest, or large ones would starve.
    fn admit(&mut self) {
        while self.running.len() < self.limits.sequences_max
            && let Some(&sequence) = self.waiting.first()
            && let Some(entry) = self.entries.get_mut(&sequence)
            && self.blocks.extend(&mut entry.blocks, entry.length).is_ok()
        {
            self.waiting.remove(&sequence);
            self.running.insert(sequence);
        }
    }
}
