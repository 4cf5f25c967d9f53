//! Log probabilities of the distribution before temperature and filters.

use std::cmp::Ordering;

/// `ln(sum(exp(logits)))` in f64; NaN counts as minus infinity, which is also the answer when nothing is above it.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if highest == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let highest = finite(highest);
    let sum: f64 = logits
        .iter()
        .filter(|logit| !logit.is_nan())
        .map(|&logit| (finite(logit) - highest).exp())
        .sum();
    highest + sum.ln()
}

/// Log probability of one logit under `log_sum_exp`.
pub fn logprob(logit: f32, log_sum_exp: f64) -> f32 {
    if logit > f32::NEG_INFINITY {
        (finite(logit) - log_sum_exp) as f32
    } else {
        // NaN too.
        f32::NEG_INFINITY
    }
}

/// The `count` most likely token ids, best first, the lowest id first among equals. Impossible tokens are left out.
pub fn most_likely(logits: &[f32], count: usize) -> Vec<u32> {
    let mut possible: Vec<(u32, f32)> = (0u32..)
        .zip(logits.iter().copied())
        .filter(|(_, logit)| *logit > f32::NEG_INFINITY)
        .collect();
    if count == 0 {
        return Vec::new();
    }
    if count < possible.len() {
        possible.select_nth_unstable_by(count - 1, by_logit);
        possible.truncate(count);
    }
    possible.sort_unstable_by(by_logit);
    possible.into_iter().map(|(token_id, _)| token_id).collect()
}

fn by_logit(left: &(u32, f32), right: &(u32, f32)) -> Ordering {
    // Not the total order: it would put 0 before -0.
    right.1.partial_cmp(&left.1).unwrap_or(Ordering::Equal).then(left.0.cmp(&right.0))
}

/// Plus infinity as the largest number, so that differences stay numbers.
fn finite(logit: f32) -> f64 {
    f64::from(logit.min(f32::MAX))
}
