//! The sampler and the log probabilities against plain formulas.

use crate::harness::{greedy, property_config};
use engine::logprobs::{log_sum_exp, logprob, most_likely};
use engine::random::{philox4x32, uniform};
use engine::request::Sampling;
use engine::sampler::{self, History, NothingToDraw};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn warm(temperature: f32) -> Sampling {
    Sampling { temperature, ..greedy() }
}

fn survivors(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let mut ids: Vec<u32> = sampler::candidates(logits, sampling)
        .unwrap()
        .into_iter()
        .map(|candidate| candidate.token_id)
        .collect();
    ids.sort_unstable();
    ids
}

/// The filters one by one on a fully sorted, renormalised distribution.
fn naive_survivors(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| {
        ((f64::from(logit) - f64::from(highest)) / f64::from(sampling.temperature)).exp()
    };
    let mut sorted: Vec<(u32, f64)> =
        (0u32..).zip(logits).map(|(id, logit)| (id, weight(*logit))).collect();
    sorted.sort_by(|left, right| right.1.partial_cmp(&left.1).unwrap().then(left.0.cmp(&right.0)));
    if let Some(k) = sampling.top_k {
        sorted.truncate(k as usize);
    }
    let mass: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    if sampling.top_p < 1.0 {
        let mut before = 0.0;
        sorted.retain(|(_, weight)| {
            let kept = before == 0.0 || before / mass < f64::from(sampling.top_p);
            before += weight;
            kept
        });
    }
    let mass: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let best = sorted[0].1 / mass;
    sorted.retain(|(_, weight)| weight / mass >= f64::from(sampling.min_p) * best - 1e-15);
    let mut ids: Vec<u32> = sorted.into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

proptest! {
    #![proptest_config(property_config(2048))]

    #[test]
    fn filters_equal_their_formulas(
        logits in proptest::collection::vec(-8f32..8.0, 1..60),
        temperature in 0.1f32..3.0,
        top_k in proptest::option::of(1u32..70),
        top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
    ) {
        let sampling = Sampling { top_k, top_p, min_p, ..warm(temperature) };
        prop_assert_eq!(survivors(&logits, &sampling), naive_survivors(&logits, &sampling));
    }

    #[test]
    fn penalties_equal_their_formulas(
        logits in proptest::collection::vec(-8f32..8.0, 10),
        prompt in proptest::collection::vec(0u32..10, 0..6),
        answer in proptest::collection::vec(0u32..10, 0..12),
        (repetition, presence, frequency) in (0.5f32..2.0, -2f32..2.0, -2f32..2.0),
        bias in proptest::collection::btree_map(0u32..12, -5f32..5.0, 0..4),
    ) {
        let sampling = Sampling {
            repetition_penalty: repetition,
            presence_penalty: presence,
            frequency_penalty: frequency,
            logit_bias: bias.clone(),
            ..greedy()
        };
        let mut history = History::default();
        history.add_prompt(&prompt);
        answer.iter().for_each(|id| history.add_generated(*id));
        let mut adjusted = logits.clone();
        sampler::adjust(&mut adjusted, &sampling, &history);
        for (id, (&logit, adjusted)) in (0u32..).zip(logits.iter().zip(adjusted)) {
            let mut expected = logit + bias.get(&id).copied().unwrap_or(0.0);
            if prompt.contains(&id) || answer.contains(&id) {
                expected = if expected > 0.0 { expected / repetition } else { expected * repetition };
            }
            let count = answer.iter().filter(|other| **other == id).count();
            if count > 0 {
                expected -= presence + frequency * count as f32;
            }
            prop_assert!((expected - adjusted).abs() <= 1e-5, "{id}: {expected} {adjusted}");
        }
    }

    #[test]
    fn any_numbers_draw_a_possible_token_or_say_why_not(
        logits in proptest::collection::vec(
            prop_oneof![
                proptest::num::f32::ANY,
                Just(f32::NAN),
                Just(f32::INFINITY),
                Just(f32::NEG_INFINITY),
                Just(f32::MAX),
                Just(f32::MIN),
            ],
            0..12,
        ),
        temperature in prop_oneof![Just(0f32), Just(f32::MIN_POSITIVE), Just(f32::NAN), 0.1f32..2.0],
        (top_k, top_p, min_p) in (proptest::option::of(0u32..5), -0.5f32..1.5, -0.5f32..1.5),
        position in any::<u64>(),
    ) {
        let sampling = Sampling { top_k, top_p, min_p, ..warm(temperature) };
        let is_possible = |logit: &f32| *logit > f32::NEG_INFINITY;
        match sampler::draw(&logits, &sampling, &History::default(), position) {
            Ok(id) => prop_assert!(is_possible(&logits[id as usize])),
            Err(error) => {
                prop_assert_eq!(error, NothingToDraw { vocab_size: logits.len() });
                prop_assert!(!logits.iter().any(is_possible));
            }
        }
        let sum = log_sum_exp(&logits);
        let total: f64 = logits.iter().map(|logit| f64::from(logprob(*logit, sum)).exp()).sum();
        prop_assert!(!total.is_nan());
    }

    #[test]
    fn logprobs_equal_log_softmax(
        logits in proptest::collection::vec(prop_oneof![Just(1f32), -50f32..50.0], 1..60),
        count in 0usize..70,
    ) {
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        for &logit in &logits {
            let expected = f64::from(logit) - sum.ln();
            prop_assert!((f64::from(logprob(logit, log_sum_exp(&logits))) - expected).abs() < 1e-5);
        }
        let mut sorted: Vec<u32> = (0..logits.len() as u32).collect();
        sorted.sort_by(|left, right| {
            logits[*right as usize].partial_cmp(&logits[*left as usize]).unwrap().then(left.cmp(right))
        });
        sorted.truncate(count);
        prop_assert_eq!(most_likely(&logits, count), sorted);
    }
}

#[test]
fn philox_equals_the_published_vectors() {
    // kat_vectors of Random123, philox4x32 with 10 rounds.
    let cases = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, expected) in cases {
        assert_eq!(philox4x32(counter, key), expected);
    }
}

#[test]
fn uniform_numbers_depend_on_seed_and_position_alone() {
    assert_eq!(uniform(5, 9).to_bits(), uniform(5, 9).to_bits());
    assert_ne!(uniform(5, 9).to_bits(), uniform(5, 10).to_bits());
    assert_ne!(uniform(5, 9).to_bits(), uniform(6, 9).to_bits());
    assert_ne!(uniform(5, 9).to_bits(), uniform(9, 5).to_bits());
    assert_ne!(uniform(1 << 40, 0).to_bits(), uniform(0, 0).to_bits());
    let mean: f64 = (0..10_000).map(|position| uniform(3, position)).sum::<f64>() / 10_000.0;
    assert!((mean - 0.5).abs() < 0.01, "{mean}");
    assert!((0..10_000).all(|position| (0.0..1.0).contains(&uniform(3, position))));
}

/// Draws `count` tokens and returns the chi-square statistic against the expected probabilities.
fn chi_square(logits: &[f32], sampling: &Sampling, expected: &BTreeMap<u32, f64>) -> f64 {
    const COUNT: u64 = 20_000;
    let mut drawn: BTreeMap<u32, u64> = BTreeMap::new();
    for position in 0..COUNT {
        let id = sampler::draw(logits, sampling, &History::default(), position).unwrap();
        *drawn.entry(id).or_default() += 1;
    }
    assert!(drawn.keys().all(|id| expected.contains_key(id)), "{drawn:?}");
    let deviation = |(id, share): (&u32, &f64)| {
        let expected = share * COUNT as f64;
        (drawn.get(id).copied().unwrap_or(0) as f64 - expected).powi(2) / expected
    };
    expected.iter().map(deviation).sum()
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [0.3f32, -1.0, 2.0, 0.0, 1.1, -0.4, 0.9, -2.0];
    let shares = |kept: &[u32]| -> BTreeMap<u32, f64> {
        let weight = |id: &u32| (f64::from(logits[*id as usize]) / 0.7).exp();
        let mass: f64 = kept.iter().map(weight).sum();
        kept.iter().map(|id| (*id, weight(id) / mass)).collect()
    };
    let warm = Sampling { seed: 11, ..warm(0.7) };
    // Critical values at 0.1 % for 7 and 3 degrees of freedom.
    let all: Vec<u32> = (0..8).collect();
    assert!(chi_square(&logits, &warm, &shares(&all)) < 24.3);
    let four = Sampling { top_k: Some(4), ..warm };
    assert!(chi_square(&logits, &four, &shares(&[0, 2, 4, 6])) < 16.3);
}

#[test]
fn ties_go_to_the_lowest_id() {
    let logits = [1.0, 3.0, 3.0, 2.0, 3.0];
    assert_eq!(sampler::greedy(&logits), Ok(1));
    assert_eq!(survivors(&logits, &Sampling { top_k: Some(2), ..warm(1.0) }), [1, 2]);
    assert_eq!(survivors(&logits, &Sampling { top_p: 0.01, ..warm(1.0) }), [1]);
    assert_eq!(most_likely(&logits, 4), [1, 2, 4, 3]);
    assert_eq!(most_likely(&[-0.0, 0.0], 2), [0, 1]);
}

#[test]
fn greedy_sees_bias_and_penalties() {
    let logits = [1.0, 3.0, 2.5];
    let mut history = History::default();
    history.add_prompt(&[2]);
    history.add_generated(1);
    let draw = |sampling: &Sampling| sampler::draw(&logits, sampling, &history, 2);
    assert_eq!(draw(&greedy()), Ok(1));
    assert_eq!(draw(&Sampling { presence_penalty: 1.0, ..greedy() }), Ok(2), "answer only");
    assert_eq!(draw(&Sampling { repetition_penalty: 4.0, ..greedy() }), Ok(0), "prompt too");
    let logit_bias = BTreeMap::from([(0, 9.0)]);
    assert_eq!(draw(&Sampling { logit_bias, ..greedy() }), Ok(0));
}
