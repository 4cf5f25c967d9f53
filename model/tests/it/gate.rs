//! The choice of experts.

use model::config::{Gate, GateWeights, Scoring, Selection};
use model::reference::HostTensor;
use model::reference::gate::route;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn gate(selection: Selection, experts_per_token: usize) -> Gate {
    Gate {
        experts_per_token,
        scoring: Scoring::Sigmoid,
        selection,
        weights: GateWeights::Normalised,
        routed_scaling_factor: 2.5,
    }
}

fn top_two(group_count: usize, groups_kept: usize) -> Selection {
    Selection::GroupLimitedByTopTwo { group_count, groups_kept }
}

fn experts(logits: &[f32], bias: Option<&[f32]>, gate: &Gate) -> Vec<u32> {
    let logits = HostTensor::new(1, logits.len(), logits.to_vec());
    route(&logits, bias, gate).experts
}

fn logit(score: f32) -> f32 {
    (score / (1.0 - score)).ln()
}

#[test]
fn equal_scores_go_to_the_lower_index() {
    assert_eq!(experts(&[0.5; 8], None, &gate(Selection::Greedy, 3)), [0, 1, 2]);
    assert_eq!(experts(&[0.5; 8], Some(&[0.0; 8]), &gate(top_two(4, 2), 3)), [0, 1, 2]);
    let logits = [0.0, 1.0, 2.0, 1.0, 2.0];
    assert_eq!(experts(&logits, None, &gate(Selection::Greedy, 4)), [2, 4, 1, 3]);
}

#[test]
fn groups_are_kept_by_the_sum_of_their_best_two() {
    // The best single score is in the last group, the best pair in the first.
    let logits: Vec<f32> = [0.6, 0.6, 0.3, 0.2, 0.9, 0.1].map(logit).to_vec();
    let bias = [0.0; 6];
    assert_eq!(experts(&logits, Some(&bias), &gate(top_two(3, 1), 2)), [0, 1]);
    let by_max = Selection::GroupLimitedByMax { group_count: 3, groups_kept: 1 };
    assert_eq!(experts(&logits, None, &gate(by_max, 2)), [4, 5]);
}

#[test]
fn a_masked_expert_does_not_beat_a_kept_one_with_a_negative_score() {
    // All biased scores are negative; a mask of 0 would choose from the dropped group.
    let logits: Vec<f32> = [0.5, 0.4, 0.3, 0.2].map(logit).to_vec();
    assert_eq!(experts(&logits, Some(&[-2.0; 4]), &gate(top_two(2, 1), 2)), [0, 1]);
}

#[test]
fn bias_takes_part_in_the_choice_and_not_in_the_weight() {
    let logits = HostTensor::new(1, 4, [0.8, 0.4, 0.2, 0.6].map(logit).into());
    let routing = route(&logits, Some(&[0.0, 0.0, 5.0, 0.0]), &gate(top_two(1, 1), 2));
    assert_eq!(routing.experts, [2, 0]);
    for (weight, expected) in routing.weights.iter().zip([0.2 * 2.5, 0.8 * 2.5]) {
        assert!((weight - expected).abs() < 1e-6, "{weight}, not {expected}");
    }
}

#[test]
fn softmax_weights_stay_as_scored() {
    let gate = Gate {
        scoring: Scoring::Softmax,
        weights: GateWeights::AsScored,
        routed_scaling_factor: 1.0,
        ..gate(Selection::Greedy, 2)
    };
    let logits = HostTensor::new(1, 3, vec![0.0, 2.0_f32.ln(), 0.0]);
    let routing = route(&logits, None, &gate);
    assert_eq!(routing.experts, [1, 0]);
    for (weight, expected) in routing.weights.iter().zip([0.5, 0.25]) {
        assert!((weight - expected).abs() < 1e-6, "{weight}, not {expected}");
    }
}

#[test]
fn no_more_experts_are_chosen_than_there_are() {
    assert_eq!(experts(&[1.0, 2.0], None, &gate(Selection::Greedy, 4)), [1, 0]);
}

proptest! {
    #![proptest_config(Config {
        cases: 256, rng_seed: RngSeed::Fixed(0x0B0F_1E03), ..Config::default()
    })]

    /// Whatever the logits are, NaN and infinities too: distinct experts, the right number, in range.
    #[test]
    fn every_row_gets_distinct_experts(
        logits in prop::collection::vec(any::<f32>(), 16),
        bias in prop::collection::vec(any::<f32>(), 16),
        groups in 0_u32..5, kept in 1_usize..4, count in 1_usize..17, softmax in any::<bool>(),
    ) {
        let group_count = 1 << groups;
        let mut gate = gate(top_two(group_count, kept.min(group_count)), count);
        gate.scoring = if softmax { Scoring::Softmax } else { Scoring::Sigmoid };
        let mut chosen = experts(&logits, Some(&bias), &gate);
        prop_assert_eq!(chosen.len(), count);
        chosen.sort_unstable();
        chosen.dedup();
        prop_assert_eq!(chosen.len(), count);
        prop_assert!(chosen.iter().all(|&expert| expert < 16));
    }

    /// With finite scores and enough kept experts, none comes from a dropped group, and the order is best first.
    #[test]
    fn choices_stay_in_the_kept_groups(
        logits in prop::collection::vec(-8.0_f32..8.0, 16),
        bias in prop::collection::vec(-3.0_f32..1.0, 16),
    ) {
        let chosen = experts(&logits, Some(&bias), &gate(top_two(4, 2), 4));
        let groups: std::collections::BTreeSet<u32> = chosen.iter().map(|e| e / 4).collect();
        prop_assert!(groups.len() <= 2);
        let biased = |e: u32| 1.0 / (1.0 + (-logits[e as usize]).exp()) + bias[e as usize];
        prop_assert!(chosen.windows(2).all(|w| biased(w[0]) >= biased(w[1]) - 1e-6));
    }
}
