//! Logits → token: pure functions, in this order: logit bias, repetition penalty (prompt and answer, as Hugging
//! Face), presence and frequency penalties (answer only, as OpenAI), temperature, top-k, top-p, min-p, draw.
//!
//! NaN counts as minus infinity. Ties go to the lowest token id everywhere.

use crate::random;
use crate::request::Sampling;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// No token has a probability: every logit is NaN or minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token can be drawn: all {vocab_size} logits are NaN or minus infinity")]
pub struct NothingToDraw {
    pub vocab_size: usize,
}

/// What the penalties need to know of a sequence, kept up token by token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Distinct tokens of prompt and answer.
    seen: BTreeSet<u32>,
    /// How often each token occurs in the answer.
    generated: BTreeMap<u32, u32>,
}

impl History {
    pub fn add_prompt(&mut self, token_ids: &[u32]) {
        self.seen.extend(token_ids);
    }

    pub fn add_generated(&mut self, token_id: u32) {
        self.seen.insert(token_id);
        *self.generated.entry(token_id).or_default() += 1;
    }
}

/// Whether [`draw`] reads the history at all; a sequence need not keep one otherwise.
pub fn has_penalties(sampling: &Sampling) -> bool {
    sampling.repetition_penalty != 1.0
        || sampling.presence_penalty != 0.0
        || sampling.frequency_penalty != 0.0
}

/// Draws the token at `position` of the sequence (prompt included) from raw logits `[vocab_size]`.
///
/// # Errors
/// [`NothingToDraw`] when no logit is above minus infinity.
pub fn draw(
    logits: &[f32],
    sampling: &Sampling,
    history: &History,
    position: u64,
) -> Result<u32, NothingToDraw> {
    if sampling.logit_bias.is_empty() && !has_penalties(sampling) {
        return draw_adjusted(logits, sampling, position);
    }
    let mut adjusted = logits.to_vec();
    adjust(&mut adjusted, sampling, history);
    draw_adjusted(&adjusted, sampling, position)
}

/// Adds the biases and applies the penalties.
///
/// Repetition: `l > 0 ? l / penalty : l * penalty` for each distinct token of prompt and answer.
/// Presence and frequency: `l - presence - frequency * count` for each token of the answer.
pub fn adjust(logits: &mut [f32], sampling: &Sampling, history: &History) {
    for (&token_id, &bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(token_id as usize) {
            *logit += bias;
        }
    }
    if sampling.repetition_penalty != 1.0 {
        let penalty = sampling.repetition_penalty;
        for &token_id in &history.seen {
            if let Some(logit) = logits.get_mut(token_id as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
    if sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0 {
        for (&token_id, &count) in &history.generated {
            if let Some(logit) = logits.get_mut(token_id as usize) {
                *logit -= sampling.presence_penalty + sampling.frequency_penalty * count as f32;
            }
        }
    }
}

fn draw_adjusted(logits: &[f32], sampling: &Sampling, position: u64) -> Result<u32, NothingToDraw> {
    // Not a number is no temperature to divide by either: greedy.
    if sampling.temperature > 0.0 {
        let candidates = candidates(logits, sampling)?;
        Ok(pick(&candidates, random::uniform(sampling.seed, position)))
    } else {
        greedy(logits)
    }
}

/// The highest logit's token, the lowest id among equals.
///
/// # Errors
/// [`NothingToDraw`] when no logit is above minus infinity.
pub fn greedy(logits: &[f32]) -> Result<u32, NothingToDraw> {
    let mut best = None;
    let mut best_logit = f32::NEG_INFINITY;
    for (token_id, &logit) in (0u32..).zip(logits) {
        // False for NaN too.
        if logit > best_logit {
            best = Some(token_id);
            best_logit = logit;
        }
    }
    best.ok_or(NothingToDraw { vocab_size: logits.len() })
}

/// A token that survived the filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub token_id: u32,
    /// `exp((logit - highest logit) / temperature)`: 1 for the best, never 0.
    pub weight: f64,
}

/// Tokens left after temperature, top-k, top-p and min-p. With a filter on they come best first, otherwise by id.
///
/// # Errors
/// [`NothingToDraw`] when no logit is above minus infinity.
pub fn candidates(logits: &[f32], sampling: &Sampling) -> Result<Vec<Candidate>, NothingToDraw> {
    let best = greedy(logits)? as usize;
    // Infinite logits would make the difference NaN.
    let highest = f64::from(logits.get(best).copied().unwrap_or(0.0).min(f32::MAX));
    let temperature = f64::from(sampling.temperature);
    let mut candidates: Vec<Candidate> = (0u32..)
        .zip(logits)
        .map(|(token_id, &logit)| {
            let weight = ((f64::from(logit.min(f32::MAX)) - highest) / temperature).exp();
            Candidate { token_id, weight: if logit.is_nan() { 0.0 } else { weight } }
        })
        .filter(|candidate| candidate.weight > 0.0)
        .collect();
    keep_top_k(&mut candidates, sampling.top_k);
    keep_top_p(&mut candidates, f64::from(sampling.top_p));
    if sampling.min_p > 0.0 {
        // The best has weight 1, so the threshold is min_p itself; the best always stays.
        let threshold = f64::from(sampling.min_p.min(1.0));
        candidates.retain(|candidate| candidate.weight >= threshold);
    }
    Ok(candidates)
}

/// Best first; the lowest id first among equals.
fn by_weight(left: &Candidate, right: &Candidate) -> Ordering {
    right.weight.total_cmp(&left.weight).then(left.token_id.cmp(&right.token_id))
}

/// Keeps exactly the best `k`; 0 keeps everything.
fn keep_top_k(candidates: &mut Vec<Candidate>, top_k: Option<u32>) {
    let k = top_k.unwrap_or(0) as usize;
    if k == 0 || k >= candidates.len() {
        return;
    }
    // Only the k best need sorting, not the whole vocabulary.
    candidates.select_nth_unstable_by(k - 1, by_weight);
    candidates.truncate(k);
    candidates.sort_unstable_by(by_weight);
}

/// Keeps the shortest prefix, best first, whose share of the mass reaches `top_p`; never less than one token.
fn keep_top_p(candidates: &mut Vec<Candidate>, top_p: f64) {
    if top_p >= 1.0 || candidates.len() < 2 {
        return;
    }
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    // All tokens below this weight together hold less than the mass that is cut away, so none of them can be in
    // the prefix: leaving them out keeps the sort short. Half of the bound, to be safe from rounding.
    let negligible = 0.5 * (1.0 - top_p).max(0.0) * total / candidates.len() as f64;
    candidates.retain(|candidate| candidate.weight >= negligible);
    candidates.sort_unstable_by(by_weight);
    let wanted = top_p * total;
    let mut mass = 0.0;
    let kept = candidates.iter().position(|candidate| {
        mass += candidate.weight;
        mass >= wanted
    });
    candidates.truncate(kept.map_or(candidates.len(), |index| index + 1));
}

/// The candidate at share `uniform` of the cumulated weights.
fn pick(candidates: &[Candidate], uniform: f64) -> u32 {
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let wanted = uniform * total;
    let mut mass = 0.0;
    let mut chosen = 0;
    for candidate in candidates {
        chosen = candidate.token_id;
        mass += candidate.weight;
        if mass > wanted {
            break;
        }
    }
    chosen
}
