//! Whether to draft, and how many tokens: pure rules on how a sequence's drafts did and on how long steps took.

use crate::engine::Now;

/// Drafts of one step at most, whatever the setting says: published layers gain nothing beyond the fourth.
pub const DRAFT_TOKENS_LIMIT: usize = 4;
/// With more running sequences nothing is drafted: a step has so many rows then that each costs its own time.
pub const DRAFTING_SEQUENCES_MAX: usize = 32;
/// A draft is made when it is at least so likely to be accepted with all before it: its way through the drafting layer
/// and the output head and its row in the next step cost about this part of a step.
const WORTH: f32 = 0.4;
/// What is believed of a sequence before anything is known: published acceptance of DeepSeek's own layer is 0.85 to 0.9.
const ACCEPTANCE_AT_FIRST: f32 = 0.85;
/// Weight of the latest draft in the estimate: text changes its character within a few dozen tokens.
const NEWEST_SHARE: f32 = 1.0 / 16.0;
/// At every so manieth position one draft more is made than seems worth it, to see whether it is by now.
const PROBE_INTERVAL: usize = 32;
/// Steps without drafting after a draft pass found no answer in time: a peer that hangs is asked in vain this seldom.
pub(crate) const PAUSE_PASSES: u64 = 64;
/// A draft pass waits one part in so many of the patience with a copy. What it may save is less than a step.
pub(crate) const PATIENCE_SHARE: u32 = 8;
/// Steps in a row that one way gets when it is tried: enough to outweigh a disturbance of the machine.
const TRIAL_STEPS: u64 = 16;
/// The way that seems slower is tried again after so many steps, at the cost of a few percent of its disadvantage.
const TRIAL_INTERVAL: u64 = 512;
/// Weight of the newest step in the mean of tokens: some trials are remembered.
const NEWEST_STEP_SHARE: f64 = 1.0 / 64.0;
/// By what part of itself the typical duration moves towards a step's: fast while a way is new, then slowly.
const STRIDE_AT_FIRST: f64 = 1.0 / 4.0;
const STRIDE: f64 = 1.0 / 32.0;
/// Batches of 1, 2 to 3, 4 to 7, 8 to 15 and more sequences are judged apart: the more rows, the dearer a draft.
const CLASSES: usize = 5;

/// How likely each of a sequence's drafts is accepted, given that those before it were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acceptance([f32; DRAFT_TOKENS_LIMIT]);

impl Default for Acceptance {
    fn default() -> Self {
        Self([ACCEPTANCE_AT_FIRST; DRAFT_TOKENS_LIMIT])
    }
}

impl Acceptance {
    /// Draft `index` of a step was equal to what was drawn.
    pub fn accepted(&mut self, index: usize) {
        if let Some(likely) = self.0.get_mut(index) {
            *likely += (1.0 - *likely) * NEWEST_SHARE;
        }
    }

    /// Draft `index` of a step was not; those after it tell nothing.
    pub fn refused(&mut self, index: usize) {
        if let Some(likely) = self.0.get_mut(index) {
            *likely -= *likely * NEWEST_SHARE;
        }
    }

    /// Drafts that are worth it at `position` of the sequence, `limit` at most.
    pub fn drafts(self, position: usize, limit: usize) -> usize {
        let mut all_accepted = 1.0;
        let worth = self.0.iter().take_while(|likely| {
            all_accepted *= **likely;
            all_accepted >= WORTH
        });
        let probes = usize::from(position.is_multiple_of(PROBE_INTERVAL));
        (worth.count() + probes).min(limit).min(DRAFT_TOKENS_LIMIT)
    }
}

/// How an engine gets from one step to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Drafting,
    Plain,
}

/// Which way yields more tokens a second, from what steps took. Only steps that decode and nothing else are measured.
///
/// How a draft's costs compare with a step's is nowhere written: rows are almost free where a step waits for memory or
/// for peers, and cost their full time where it computes. Answers do not depend on the choice, so it may depend on the
/// clock. Where no time passes, as in a test with a clock that stands, drafting is always chosen.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    classes: [Class; CLASSES],
}

/// What is known of batches of one size.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    steps: u64,
    drafting: Yield,
    plain: Yield,
}

/// What a step of one way gives and takes.
#[derive(Clone, Copy, Debug, Default)]
struct Yield {
    steps: u64,
    /// Their mean.
    tokens: f64,
    /// About their median: a machine that does something else for a moment must not decide.
    seconds: f64,
}

impl Yield {
    fn record(&mut self, tokens: f64, seconds: f64) {
        if self.steps == 0 || self.seconds <= 0.0 {
            (self.tokens, self.seconds) = (tokens, seconds);
        } else {
            let share = NEWEST_STEP_SHARE.max(1.0 / (self.steps + 1) as f64);
            self.tokens += (tokens - self.tokens) * share;
            let stride = if self.steps < TRIAL_STEPS { STRIDE_AT_FIRST } else { STRIDE };
            self.seconds *= if seconds > self.seconds { 1.0 + stride } else { 1.0 - stride };
        }
        self.steps += 1;
    }
}

impl Pace {
    /// The way after a step of `sequences` running sequences.
    pub fn choose(&self, sequences: usize) -> Way {
        let Class { steps, drafting, plain } = self.classes[class(sequences)];
        if drafting.steps < TRIAL_STEPS {
            return Way::Drafting;
        }
        if plain.steps < TRIAL_STEPS && plain.steps < drafting.steps && drafting.seconds > 0.0 {
            return Way::Plain;
        }
        let better = match plain.tokens * drafting.seconds > drafting.tokens * plain.seconds {
            true => Way::Plain,
            false => Way::Drafting,
        };
        let is_trial = drafting.seconds > 0.0 && steps % TRIAL_INTERVAL < TRIAL_STEPS;
        match (is_trial, better) {
            (false, better) => better,
            (true, Way::Drafting) => Way::Plain,
            (true, Way::Plain) => Way::Drafting,
        }
    }

    /// One step of `sequences` sequences gave `tokens` tokens, `elapsed` after the step before it.
    pub fn record(&mut self, way: Way, sequences: usize, tokens: u64, elapsed: Now) {
        let class = &mut self.classes[class(sequences)];
        class.steps += 1;
        let measured = match way {
            Way::Drafting => &mut class.drafting,
            Way::Plain => &mut class.plain,
        };
        measured.record(tokens as f64, elapsed.as_secs_f64());
    }
}

fn class(sequences: usize) -> usize {
    (sequences.max(1).ilog2() as usize).min(CLASSES - 1)
}

/// Drafts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DraftTotals {
    /// That a step looked at.
    pub(crate) drafted: u64,
    /// That were equal to what was drawn.
    pub(crate) accepted: u64,
}
