//! Logits of a gate → experts and weights. All backends choose with this one function.

use super::HostTensor;
use crate::backend::Routing;
use crate::config::{Gate, GateWeights, Scoring, Selection};

/// Keeps the division finite when every chosen score is 0.
const WEIGHT_SUM_FLOOR: f32 = 1e-20;

/// Chooses the experts of every row of `logits` `[rows, experts]`, best first.
///
/// Equal scores go to the lower index. NaN ranks below everything, so a damaged row still gets its number of
/// experts (and NaN weights).
pub fn route(logits: &HostTensor, bias: Option<&[f32]>, gate: &Gate) -> Routing {
    let experts_per_row = gate.experts_per_token.min(logits.columns);
    let mut routing = Routing { experts_per_row, experts: Vec::new(), weights: Vec::new() };
    for row in 0..logits.rows {
        let scores = score(logits.row(row), gate.scoring);
        let chosen = choose(&scores, bias, gate.selection, experts_per_row);
        routing.weights.extend(weights(&scores, &chosen, gate));
        routing.experts.extend(chosen.iter().map(|&expert| expert as u32));
    }
    routing
}

/// exp in f64, rounded once: the same on every machine.
fn exp(value: f32) -> f32 {
    f64::from(value).exp() as f32
}

fn score(logits: &[f32], scoring: Scoring) -> Vec<f32> {
    match scoring {
        Scoring::Sigmoid => logits.iter().map(|&logit| 1.0 / (1.0 + exp(-logit))).collect(),
        Scoring::Softmax => {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut scores: Vec<f32> = logits.iter().map(|&logit| exp(logit - max)).collect();
            let sum: f32 = scores.iter().sum();
            for score in &mut scores {
                *score /= sum;
            }
            scores
        }
    }
}

/// Indices of the chosen experts, best first.
fn choose(scores: &[f32], bias: Option<&[f32]>, selection: Selection, count: usize) -> Vec<usize> {
    let mut ranks: Vec<f32> = match bias {
        Some(bias) => scores.iter().zip(bias).map(|(score, bias)| rank(score + bias)).collect(),
        None => scores.iter().map(|&score| rank(score)).collect(),
    };
    match selection {
        Selection::Greedy => {}
        Selection::GroupLimitedByMax { group_count, groups_kept } => {
            mask_groups(&mut ranks, group_count, groups_kept, best);
        }
        Selection::GroupLimitedByTopTwo { group_count, groups_kept } => {
            mask_groups(&mut ranks, group_count, groups_kept, sum_of_best_two);
        }
    }
    top(&ranks, count)
}

/// NaN compares with nothing; as −∞ it is merely the worst. Adding 0 makes −0 and 0 equal.
fn rank(value: f32) -> f32 {
    if value.is_nan() { f32::NEG_INFINITY } else { value + 0.0 }
}

fn best(group: &[f32]) -> f32 {
    group.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

fn sum_of_best_two(group: &[f32]) -> f32 {
    top(group, 2).into_iter().map(|index| group[index]).sum()
}

/// Sets every rank outside the kept groups to −∞. Zero would beat a kept expert whose biased score is negative.
fn mask_groups(ranks: &mut [f32], group_count: usize, kept: usize, value: fn(&[f32]) -> f32) {
    let group_size = ranks.len() / group_count.max(1);
    if group_size == 0 {
        return;
    }
    let values: Vec<f32> = ranks.chunks(group_size).map(value).collect();
    let kept = top(&values, kept);
    for (group, ranks) in ranks.chunks_mut(group_size).enumerate() {
        if !kept.contains(&group) {
            ranks.fill(f32::NEG_INFINITY);
        }
    }
}

/// Indices of the `count` largest values, largest first, the lower index first among equals.
fn top(values: &[f32], count: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..values.len()).collect();
    indices.sort_by(|&a, &b| rank(values[b]).total_cmp(&rank(values[a])).then(a.cmp(&b)));
    indices.truncate(count);
    indices
}

/// Weights come from the scores without the selection bias.
fn weights(scores: &[f32], chosen: &[usize], gate: &Gate) -> Vec<f32> {
    let mut weights: Vec<f32> = chosen.iter().map(|&expert| scores[expert]).collect();
    let sum = weights.iter().sum::<f32>() + WEIGHT_SUM_FLOOR;
    for weight in &mut weights {
        match gate.weights {
            GateWeights::Normalised => *weight = *weight / sum * gate.routed_scaling_factor,
            GateWeights::AsScored => *weight *= gate.routed_scaling_factor,
        }
    }
    weights
}
