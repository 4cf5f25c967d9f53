//! Between two steps: the drafting layer guesses what comes next, token by token, and the next step looks.
//!
//! Nothing here can change an answer: a draft that is not equal to what its position draws is dropped with all after
//! it. So whatever goes wrong, drafting is left out for a while.

use super::{Engine, Now};
use crate::request::SequenceId;
use crate::scheduler::Planned;
use crate::sequence::Sequence;
use crate::speculation::{DRAFTING_SEQUENCES_MAX, PAUSE_PASSES, Pace, Way};
use crate::step::{DraftPart, Stepped};
use model::executor::{DraftSegment, Logits, LogitsWanted, Segment};

/// What drafting needs to remember beside the sequences.
#[derive(Debug, Default)]
pub(super) struct Drafting {
    /// The next draft pass.
    round: Vec<DraftPart>,
    /// No drafts before so many steps have ended.
    paused_until: u64,
    pace: Pace,
    /// The last step, unless nothing had work since.
    last: Option<LastStep>,
}

/// What the next step is measured from.
#[derive(Clone, Copy, Debug)]
struct LastStep {
    ended_at: Now,
    generated_tokens: u64,
    sequences: usize,
    way: Way,
}

impl Engine {
    /// Whether states of the step that has just ended go through the drafting layer.
    pub(super) fn way(&self) -> Way {
        let sequences = self.scheduler.running_count();
        if self.config.draft_tokens_max == 0
            || self.passes < self.drafting.paused_until
            || sequences > DRAFTING_SEQUENCES_MAX
        {
            return Way::Plain;
        }
        self.drafting.pace.choose(sequences)
    }

    /// A step ended, and `way` leads to the next one.
    pub(super) fn measure(&mut self, now: Now, planned: &[Planned], way: Way) {
        let decodes = |part: &Planned| part.count == part.drafts + 1;
        if let Some(last) = self.drafting.last
            && planned.len() == last.sequences
            && planned.iter().all(decodes)
        {
            let elapsed = now.saturating_sub(last.ended_at);
            let tokens = self.generated_tokens - last.generated_tokens;
            self.drafting.pace.record(last.way, last.sequences, tokens, elapsed);
        }
        self.drafting.last = Some(LastStep {
            ended_at: now,
            generated_tokens: self.generated_tokens,
            sequences: self.scheduler.running_count(),
            way,
        });
    }

    /// Nothing has work: the time until the next step is not the next step's.
    pub(super) fn rest(&mut self) {
        self.drafting.last = None;
    }

    /// Plans the first draft pass after a step for one of its parts, whose states begin at row `state_row`. It runs over
    /// all positions that the step added, also those of prompts: drafts attend to them.
    pub(super) fn plan_draft(&mut self, part: &Planned, state_row: usize) {
        let Some(sequence) = self.sequences.get(&part.sequence) else { return };
        // The last token of an answer comes out of the next step anyway.
        let room = sequence.tokens_left().saturating_sub(1);
        let cached = self.scheduler.cached(part.sequence);
        let Some(next) = sequence.token_ids().get(part.position + 1..=cached) else { return };
        if room == 0 || next.is_empty() {
            return;
        }
        let drafts = match part.logits {
            LogitsWanted::No => 0,
            LogitsWanted::LastToken | LogitsWanted::LastTokens(_) => {
                let limit = room.min(self.config.draft_tokens_max);
                sequence.acceptance().drafts(cached, limit)
            }
        };
        self.drafting.round.push(DraftPart {
            sequence: part.sequence,
            state_row,
            position: part.position,
            token_ids: next.to_vec(),
            drafts: self.scheduler.reserve(part.sequence, drafts),
        });
    }

    /// Opens the draft pass that is planned, if any.
    pub(super) fn begin_draft(&mut self, now: Now) -> Option<Stepped> {
        let mut parts = std::mem::take(&mut self.drafting.round);
        parts.retain(|part| self.is_alive(part.sequence));
        if parts.is_empty() {
            return None;
        }
        let segments = parts
            .iter()
            .map(|part| DraftSegment {
                state_row: part.state_row,
                next: Segment {
                    token_ids: part.token_ids.clone(),
                    position: part.position,
                    blocks: self.scheduler.block_table(part.sequence).to_vec(),
                    logits: part.logits(),
                },
            })
            .collect();
        Some(self.step.begin_draft(now, parts, segments))
    }

    /// Takes one draft of each part that wanted any, and plans the next pass for those that want more.
    pub(super) fn finish_draft(&mut self, parts: &[DraftPart], logits: &Logits) {
        let mut rows = logits.values.chunks_exact(logits.vocab_size.max(1));
        for (state_row, part) in parts.iter().filter(|part| part.drafts > 0).enumerate() {
            let Some(row) = rows.next() else { return };
            if let Some(token_id) = self.draft(part.sequence, row)
                && part.drafts > 1
            {
                self.drafting.round.push(DraftPart {
                    sequence: part.sequence,
                    state_row,
                    position: part.position + part.token_ids.len(),
                    token_ids: vec![token_id],
                    drafts: part.drafts - 1,
                });
            }
        }
    }

    fn draft(&mut self, id: SequenceId, logits: &[f32]) -> Option<u32> {
        let known = logits.len().min(self.vocabulary.vocab_size());
        let token_id = self.sequences.get_mut(&id)?.draft(logits.get(..known)?)?;
        self.scheduler.record_draft(id);
        Some(token_id)
    }

    /// A draft pass did not come to its end.
    pub(super) fn pause_drafting(&mut self) {
        self.drafting.round.clear();
        self.drafting.paused_until = self.passes + PAUSE_PASSES;
    }

    /// The drafts that a planned part looks at.
    pub(super) fn drafts(&self, part: &Planned) -> &[u32] {
        let drafts = self.sequences.get(&part.sequence).map_or(&[][..], Sequence::drafts);
        drafts.get(..part.drafts).unwrap_or(drafts)
    }
}
