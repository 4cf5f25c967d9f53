//! An answer does not depend on what else runs, on chunks, on blocks or on preemption.

use crate::harness::{
    CONTEXT_LENGTH, Transcripts, alone, config, engine, greedy, property_config, request, run,
    take_events,
};
use crate::toy::{Batches, VOCAB_SIZE};
use engine::engine::{Advance, EngineConfig, Now};
use engine::request::{EndOfSequence, Request, Sampling, Stop};
use model::executor::{BlockId, CacheShape};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let filters =
        (proptest::option::of(1u32..10), 0.3f32..1.2, prop_oneof![Just(0.0f32), 0.0f32..0.3]);
    let penalties = (
        prop_oneof![Just(1.0f32), 0.8f32..1.5],
        prop_oneof![Just(0.0f32), -1.0f32..1.0],
        -0.5f32..1.0,
    );
    let rest =
        (prop_oneof![Just(0.0f32), 0.3f32..2.0], any::<u64>(), proptest::option::of(0u32..4));
    let greedy_or_warm =
        (filters, penalties, rest).prop_map(|(filters, penalties, rest)| Sampling {
            temperature: rest.0,
            top_k: filters.0,
            top_p: filters.1,
            min_p: filters.2,
            repetition_penalty: penalties.0,
            presence_penalty: penalties.1,
            frequency_penalty: penalties.2,
            logit_bias: BTreeMap::from([(5, 1.0), (6, -1.0)]),
            seed: rest.1,
            top_logprobs: rest.2,
        });
    prop_oneof![1 => Just(greedy()), 3 => greedy_or_warm]
}

fn any_stop() -> impl Strategy<Value = Stop> {
    let strings =
        prop::sample::subsequence(vec!["stop", "abc", "日", "é", "ca", "b\n", "\u{fffd}"], 0..3);
    let end = prop_oneof![Just(EndOfSequence::Stop), Just(EndOfSequence::Ignore)];
    (1usize..24, strings, proptest::option::weighted(0.2, 0..VOCAB_SIZE as u32), end).prop_map(
        |(max_tokens, strings, token_id, end_of_sequence)| Stop {
            max_tokens,
            strings: strings.into_iter().map(str::to_owned).collect(),
            token_ids: token_id.into_iter().collect(),
            end_of_sequence,
        },
    )
}

pub fn any_request() -> impl Strategy<Value = Request> {
    let prompt = proptest::collection::vec(0..VOCAB_SIZE as u32, 1..24);
    (prompt, any_sampling(), any_stop()).prop_map(|(prompt_token_ids, sampling, stop)| Request {
        prompt_token_ids,
        emitted_token_ids: Vec::new(),
        sampling,
        stop,
    })
}

/// Budget, bounds and block ownership of everything that the executor was asked.
fn check_batches(batches: &Batches, config: &EngineConfig, block_tokens: usize) {
    for batch in batches.lock().unwrap().iter() {
        let tokens: usize = batch.segments.iter().map(|segment| segment.token_ids.len()).sum();
        assert!(tokens > 0 && tokens <= config.step_tokens_max);
        assert!(batch.segments.len() <= config.sequences_max);
        let mut owners: BTreeMap<BlockId, usize> = BTreeMap::new();
        for block in batch.segments.iter().flat_map(|segment| &segment.blocks) {
            *owners.entry(*block).or_default() += 1;
        }
        for segment in &batch.segments {
            for block in &segment.blocks[segment.position / block_tokens..] {
                assert_eq!(owners[block], 1, "a shared block is written");
            }
        }
    }
}

proptest! {
    #![proptest_config(property_config(256))]

    #[test]
    fn company_changes_nothing(
        requests in proptest::collection::vec((any_request(), 0usize..60, any::<bool>()), 1..9),
        (step_tokens_max, sequences_max) in (1usize..40, 1usize..9),
        (block_tokens, spare) in (1usize..6, 0usize..60),
    ) {
        // A prompt of 23 tokens and an answer of 23 always fit alone.
        let block_count = 45usize.div_ceil(block_tokens) + spare / block_tokens;
        let bounds = EngineConfig { step_tokens_max, sequences_max, ..config() };
        let (mut engine, batches) =
            engine(bounds.clone(), CacheShape { block_tokens, block_count });
        let mut transcripts = Transcripts::new();
        let mut expected = Transcripts::new();
        for (request, advances, is_cancelled) in requests {
            for _ in 0..advances {
                engine.advance(Now::ZERO);
                take_events(&mut engine, &mut transcripts);
            }
            let id = engine.submit(request.clone()).unwrap();
            if is_cancelled {
                engine.advance(Now::ZERO);
                engine.cancel(id);
                transcripts.remove(&id);
            } else {
                expected.insert(id, alone(&request));
            }
        }
        while engine.advance(Now::ZERO) != Advance::Idle {
            take_events(&mut engine, &mut transcripts);
        }
        take_events(&mut engine, &mut transcripts);
        prop_assert_eq!(transcripts, expected);
        check_batches(&batches, &bounds, block_tokens);
        prop_assert_eq!(engine.load().kv_blocks_used, 0);
    }
}

#[test]
fn preempted_sequences_lose_nothing() {
    // Room for one and a half of the final lengths.
    let (mut engine, _) = engine(config(), CacheShape { block_tokens: 2, block_count: 40 });
    let requests: Vec<Request> = (1..8)
        .map(|first| {
            let mut request = request(&[first, 2, 7]);
            request.sampling.temperature = 0.8;
            request.sampling.seed = u64::from(first);
            request.stop.end_of_sequence = EndOfSequence::Ignore;
            request.stop.max_tokens = CONTEXT_LENGTH - 10;
            request
        })
        .collect();
    let ids: Vec<_> =
        requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    let transcripts = run(&mut engine);
    for (id, request) in ids.iter().zip(&requests) {
        assert_eq!(transcripts[id], alone(request));
    }
    assert!(engine.load().preemptions_total >= 6, "{:?}", engine.load());
}
