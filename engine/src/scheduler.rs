//! Continuous batching: which sequences run in the next step, and how many tokens of each.
//!
//! Knows lengths and blocks; tokens only pass through, to find the blocks that hold them. Priority is arrival: a
//! sequence that runs keeps its blocks unless an older one needs them; then the youngest gives all of its own back and
//! is computed again later. So the oldest always gets on, and everything ends.

use crate::blocks::BlockAllocator;
use crate::request::SequenceId;
use model::executor::{BlockId, CacheShape, LogitsWanted};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bounds of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    pub step_tokens_max: usize,
    pub sequences_max: usize,
}

/// Tokens of one sequence in the next step: `count` of them from `position` on, the last `drafts` of them guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub sequence: SequenceId,
    pub position: usize,
    pub count: usize,
    pub drafts: usize,
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
    admitted: VecDeque<Admitted>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Tokens known: prompt and answer.
    length: usize,
    /// Positions in the cache, from the first on.
    cached: usize,
    /// Blocks, from the first on, that others may share.
    registered: usize,
    /// Length when it was let run. From there on it decodes: one token makes the next one known.
    prefill: usize,
    /// Guessed tokens behind the known ones.
    drafts: usize,
    /// Covers the whole length and the drafts while running, empty while waiting.
    blocks: Vec<BlockId>,
    lives: Lives,
}

/// How often a sequence was let run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lives {
    None,
    Some,
}

/// A sequence was let run for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub sequence: SequenceId,
    /// Positions, from the first on, that were in the cache already.
    pub cached: usize,
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
            admitted: VecDeque::new(),
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

    /// Positions of the sequence that are in the cache.
    pub fn cached(&self, sequence: SequenceId) -> usize {
        self.entries.get(&sequence).map_or(0, |entry| entry.cached)
    }

    // -- mutators

    /// Queues a sequence of `length` known tokens. Its id must be higher than all before.
    pub fn add(&mut self, sequence: SequenceId, length: usize) {
        let blocks = Vec::new();
        let entry = Entry {
            length,
            cached: 0,
            registered: 0,
            prefill: length,
            drafts: 0,
            blocks,
            lives: Lives::None,
        };
        self.entries.insert(sequence, entry);
        self.waiting.insert(sequence);
    }

    /// The sequence ended: its blocks are free, and keep what they hold until somebody needs them.
    pub fn remove(&mut self, sequence: SequenceId) {
        if let Some(mut entry) = self.entries.remove(&sequence) {
            self.blocks.release(&mut entry.blocks);
        }
        self.waiting.remove(&sequence);
        self.running.remove(&sequence);
    }

    /// A planned part was computed: the positions of its known tokens are in the cache, and the blocks that they fill can
    /// be shared. `token_ids` are all that are known of the sequence.
    pub fn record_computed(&mut self, planned: &Planned, token_ids: &[u32]) {
        if let Some(entry) = self.entries.get_mut(&planned.sequence) {
            entry.cached = planned.position + planned.count - planned.drafts;
            entry.drafts = 0;
            let computed = token_ids.get(..entry.cached).unwrap_or_default();
            let full = computed.chunks_exact(self.blocks.block_tokens()).enumerate();
            for (index, token_ids) in full.skip(entry.registered) {
                self.blocks.register(&mut entry.blocks, index, token_ids);
                entry.registered = index + 1;
            }
        }
    }

    /// The last token that became known had been guessed: its position is in the cache too.
    pub fn record_accepted(&mut self, sequence: SequenceId) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.cached += 1;
        }
    }

    /// Blocks for so many guesses, if they are free: nobody is preempted for a guess. Returns how many have room.
    pub fn reserve(&mut self, sequence: SequenceId, drafts: usize) -> usize {
        match self.entries.get_mut(&sequence) {
            Some(entry) => {
                let covered = entry.length + drafts;
                self.blocks.extend(&mut entry.blocks, covered).map_or(0, |()| drafts)
            }
            None => 0,
        }
    }

    /// One more token that has room is guessed.
    pub fn record_draft(&mut self, sequence: SequenceId) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.drafts += 1;
        }
    }

    /// One more token is known.
    pub fn record_token(&mut self, sequence: SequenceId) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.length += 1;
        }
    }

    /// The next step: one token of each sequence that decodes and its drafts, then prefill chunks, oldest first. Empty
    /// when nothing has work. The same again until something is recorded. `token_ids` gives all that are known of a
    /// sequence.
    pub fn plan<'a>(&mut self, token_ids: impl Fn(SequenceId) -> &'a [u32]) -> Vec<Planned> {
        self.secure_blocks();
        self.admit(token_ids);
        let mut budget = self.limits.step_tokens_max;
        let mut plan = Vec::new();
        let (decoding, prefilling): (Vec<SequenceId>, Vec<SequenceId>) =
            self.running.iter().partition(|sequence| self.is_decoding(**sequence));
        // Every sequence that decodes gets its token before any gets drafts.
        let mut drafts_left = budget.saturating_sub(decoding.len());
        for sequence in decoding.into_iter().chain(prefilling) {
            let known = self.missing(sequence).min(budget);
            if known > 0 {
                let drafts = self.drafts(sequence).min(drafts_left);
                drafts_left -= drafts;
                budget -= known + drafts;
                plan.extend(self.planned(sequence, known, drafts));
            }
        }
        plan
    }

    /// Sequences that [`Scheduler::plan`] let run for the first time, in order.
    pub fn poll_admitted(&mut self) -> Option<Admitted> {
        self.admitted.pop_front()
    }

    // -- internals

    fn missing(&self, sequence: SequenceId) -> usize {
        self.entries.get(&sequence).map_or(0, Entry::missing)
    }

    fn is_decoding(&self, sequence: SequenceId) -> bool {
        self.entries.get(&sequence).is_some_and(Entry::is_decoding)
    }

    /// Guesses to look at; only behind a single known token, so never in a prefill.
    fn drafts(&self, sequence: SequenceId) -> usize {
        let decoding = |entry: &&Entry| entry.is_decoding() && entry.missing() == 1;
        self.entries.get(&sequence).filter(decoding).map_or(0, |entry| entry.drafts)
    }

    fn planned(&self, sequence: SequenceId, known: usize, drafts: usize) -> Option<Planned> {
        let entry = self.entries.get(&sequence)?;
        let logits = match drafts {
            0 if known < entry.missing() => LogitsWanted::No,
            0 => LogitsWanted::LastToken,
            drafts => LogitsWanted::LastTokens(drafts + 1),
        };
        Some(Planned { sequence, position: entry.cached, count: known + drafts, drafts, logits })
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
                entry.registered = 0;
                entry.drafts = 0;
                entry.prefill = entry.length;
            }
            self.waiting.insert(sequence);
            self.preemptions += 1;
        }
    }

    /// Lets waiting sequences run, oldest first, while all that is known of them fits the free blocks. Nobody
    /// overtakes the oldest, or large ones would starve.
    fn admit<'a>(&mut self, token_ids: impl Fn(SequenceId) -> &'a [u32]) {
        while self.running.len() < self.limits.sequences_max
            && let Some(&sequence) = self.waiting.first()
            && let Some(entry) = self.entries.get_mut(&sequence)
            && let Ok(cached) =
                self.blocks.admit(&mut entry.blocks, token_ids(sequence), entry.length)
        {
            entry.cached = cached;
            entry.registered = cached / self.blocks.block_tokens();
            if entry.lives == Lives::None {
                entry.lives = Lives::Some;
                self.admitted.push_back(Admitted { sequence, cached });
            }
            self.waiting.remove(&sequence);
            self.running.insert(sequence);
        }
    }
}
