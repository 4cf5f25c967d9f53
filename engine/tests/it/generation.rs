//! One request after the other: what an answer is, and how it ends.

use crate::harness::{
    CONTEXT_LENGTH, End, ROOMY, Transcript, alone, config, engine, greedy, request, run,
    take_events,
};
use crate::toy::{END_TOKEN, ToyExecutor, ToyExperts, VOCAB_SIZE};
use engine::engine::{Advance, Now, SubmitError};
use engine::request::{EndOfSequence, FinishReason, Request, Sampling};
use engine::sampler::{self, History};
use model::executor::{
    Batch, BlockId, CacheShape, Executor, ExpertCall, Experts, LogitsWanted, Progress, Segment,
};
use std::collections::BTreeMap;

/// An answer without an engine: the whole history in one segment and its counts, again for every token.
fn naive(prompt: &[u32], count: usize, sampling: &Sampling) -> Vec<u32> {
    let shape = CacheShape { block_tokens: CONTEXT_LENGTH, block_count: 1 };
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + count {
        let mut executor = ToyExecutor::new(shape, CONTEXT_LENGTH);
        let segment = Segment {
            token_ids: tokens.clone(),
            position: 0,
            blocks: vec![BlockId(0)],
            logits: LogitsWanted::LastToken,
        };
        let mut progress = executor.begin(Batch { segments: vec![segment] }).unwrap();
        let logits = loop {
            match progress {
                Progress::Finished(logits) => break logits.values,
                Progress::Experts(routed) => {
                    let outputs: Vec<Vec<u8>> = routed
                        .routes
                        .iter()
                        .map(|route| {
                            let call = ExpertCall { expert: route.expert, rows: vec![route.row] };
                            ToyExperts::all().compute(routed.layer, &[call], &routed.rows).unwrap()
                        })
                        .collect();
                    let outputs: Vec<&[u8]> = outputs.iter().map(Vec::as_slice).collect();
                    progress = executor.resume(&outputs).unwrap();
                }
            }
        };
        let mut history = History::default();
        history.add_prompt(prompt);
        tokens[prompt.len()..].iter().for_each(|id| history.add_generated(*id));
        let position = tokens.len() as u64;
        tokens.push(sampler::draw(&logits, sampling, &history, position).unwrap());
    }
    tokens.split_off(prompt.len())
}

fn endless(prompt: &[u32], max_tokens: usize) -> Request {
    let mut request = request(prompt);
    request.stop.end_of_sequence = EndOfSequence::Ignore;
    request.stop.max_tokens = max_tokens;
    request
}

fn finished(transcript: &Transcript) -> (FinishReason, Option<String>) {
    match transcript.end.clone() {
        Some(End::Finished { reason, stop_string, .. }) => (reason, stop_string),
        end => panic!("not finished: {end:?}"),
    }
}

#[test]
fn greedy_equals_the_model_without_an_engine() {
    for first in 1..8 {
        let prompt = [first, 5, 9, first + 3, 2];
        let answer = alone(&endless(&prompt, 12));
        assert_eq!(answer.token_ids(), naive(&prompt, 12, &greedy()));
        assert_eq!(finished(&answer), (FinishReason::Length, None));
    }
}

#[test]
fn draws_count_positions_from_the_prompt_and_penalties_count_tokens() {
    let warm = Sampling { temperature: 50.0, seed: 3, ..greedy() };
    let penalised = Sampling {
        repetition_penalty: 1.4,
        presence_penalty: 0.3,
        frequency_penalty: 0.9,
        ..greedy()
    };
    for sampling in [warm, penalised] {
        let mut request = endless(&[2, 7, 1], 40);
        request.sampling = sampling;
        let answer = alone(&request);
        assert_eq!(answer.token_ids(), naive(&[2, 7, 1], 40, &request.sampling));
    }
}

#[test]
fn prefill_chunks_and_block_sizes_change_nothing() {
    let request = endless(&[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], 16);
    let expected = alone(&request);
    for step_tokens_max in 1..12 {
        for block_tokens in 1..6 {
            let shape = CacheShape { block_tokens, block_count: 26usize.div_ceil(block_tokens) };
            let (mut engine, _) =
                engine(engine::engine::EngineConfig { step_tokens_max, ..config() }, shape);
            let id = engine.submit(request.clone()).unwrap();
            assert_eq!(run(&mut engine)[&id], expected, "{step_tokens_max} {shape:?}");
        }
    }
}

#[test]
fn end_token_ends_and_is_reported_without_text() {
    let endings = (1..20).map(|first| alone(&request(&[first, 2, 3])));
    let mut seen = 0;
    for answer in endings {
        let (reason, _) = finished(&answer);
        let last = answer.tokens.last().unwrap();
        assert_eq!(reason == FinishReason::Stop, last.token_id == END_TOKEN);
        assert!(answer.token_ids()[..answer.tokens.len() - 1].iter().all(|id| *id != END_TOKEN));
        if last.token_id == END_TOKEN {
            assert_eq!(last.text, "");
            seen += 1;
        }
    }
    assert!(seen > 3, "too few answers ended by themselves: {seen}");
}

#[test]
fn stop_token_ends_even_when_the_end_token_is_ignored() {
    let whole = alone(&endless(&[4, 4], 20));
    let mut stopping = endless(&[4, 4], 20);
    let stop_token = whole.token_ids()[7];
    let first = whole.token_ids().iter().position(|id| *id == stop_token).unwrap();
    stopping.stop.token_ids = vec![stop_token];
    let answer = alone(&stopping);
    assert_eq!(answer.token_ids(), whole.token_ids()[..=first]);
    assert_eq!(finished(&answer), (FinishReason::Stop, None));
    assert_eq!(answer.tokens[..first], whole.tokens[..first]);
}

#[test]
fn context_lowers_max_tokens() {
    let prompt = [6; CONTEXT_LENGTH - 5];
    let answer = alone(&endless(&prompt, 1000));
    assert_eq!(answer.tokens.len(), 5);
    assert_eq!(finished(&answer), (FinishReason::Length, None));
}

#[test]
fn zero_tokens_finish_at_once() {
    let (mut engine, batches) = engine(config(), ROOMY);
    let id = engine.submit(endless(&[1], 0)).unwrap();
    let answer = run(&mut engine).remove(&id).unwrap();
    assert!(answer.tokens.is_empty());
    assert_eq!(finished(&answer), (FinishReason::Length, None));
    assert!(batches.lock().unwrap().is_empty());
}

#[test]
fn what_can_never_work_is_refused() {
    let (mut engine, _) = engine(config(), CacheShape { block_tokens: 4, block_count: 5 });
    assert_eq!(engine.submit(request(&[])), Err(SubmitError::PromptEmpty));
    assert_eq!(
        engine.submit(request(&[1; CONTEXT_LENGTH])),
        Err(SubmitError::PromptTooLong {
            prompt_tokens: CONTEXT_LENGTH,
            context_length: CONTEXT_LENGTH
        })
    );
    assert_eq!(
        engine.submit(request(&[1, 24])),
        Err(SubmitError::TokenOutOfRange { token_id: 24, vocab_size: VOCAB_SIZE })
    );
    let mut bad_emitted = request(&[1]);
    bad_emitted.emitted_token_ids = vec![2, 77];
    assert_eq!(
        engine.submit(bad_emitted),
        Err(SubmitError::TokenOutOfRange { token_id: 77, vocab_size: VOCAB_SIZE })
    );
    assert_eq!(
        engine.submit(request(&[1; 21])),
        Err(SubmitError::NeverFits { needed: 6, total: 5 })
    );
}

#[test]
fn answers_end_where_the_cache_does() {
    let (mut engine, _) = engine(config(), CacheShape { block_tokens: 4, block_count: 5 });
    // 20 positions: the last token of an answer is not computed with.
    for (prompt, expected) in [(&[1; 1][..], 20), (&[1; 19], 2), (&[1; 20], 1)] {
        let id = engine.submit(endless(prompt, 30)).unwrap();
        let answer = run(&mut engine).remove(&id).unwrap();
        assert_eq!(answer.tokens.len(), expected);
        assert_eq!(finished(&answer), (FinishReason::Length, None));
    }
}

#[test]
fn queue_is_bounded() {
    let bounds = engine::engine::EngineConfig { sequences_max: 2, queue_max: 3, ..config() };
    let (mut engine, _) = engine(bounds, ROOMY);
    for _ in 0..5 {
        engine.submit(request(&[1])).unwrap();
    }
    assert_eq!(engine.submit(request(&[1])), Err(SubmitError::QueueFull { queue_max: 3 }));
    assert_eq!(run(&mut engine).len(), 5);
    engine.submit(request(&[1])).unwrap();
}

#[test]
fn cancelled_sequence_is_silent_and_gives_its_blocks_back() {
    let (mut engine, _) = engine(config(), ROOMY);
    let kept = endless(&[1, 2], 10);
    let cancelled = engine.submit(endless(&[1, 2, 3], 30)).unwrap();
    let id = engine.submit(kept.clone()).unwrap();
    // Into the middle of the second pass, with an event of the first one not yet taken.
    for _ in 0..15 {
        assert_eq!(engine.advance(Now::ZERO), Advance::Ran);
    }
    assert!(engine.load().generated_tokens_total >= 2);
    engine.cancel(cancelled);
    let transcripts = run(&mut engine);
    assert_eq!(transcripts.keys().copied().collect::<Vec<_>>(), [id]);
    assert_eq!(transcripts[&id], alone(&kept));
    assert_eq!(engine.load().kv_blocks_used, 0);
    engine.cancel(cancelled);
}

#[test]
fn pass_for_nobody_is_dropped() {
    let (mut engine, _) = engine(config(), ROOMY);
    let cancelled = engine.submit(request(&[1, 2, 3])).unwrap();
    engine.advance(Now::ZERO);
    engine.cancel(cancelled);
    let id = engine.submit(request(&[7])).unwrap();
    assert_eq!(run(&mut engine)[&id], alone(&request(&[7])));
}

#[test]
fn failed_segment_fails_alone() {
    // The executor's context is shorter than what the engine was told: long sequences run into its error.
    let told = engine::engine::EngineConfig { context_length: 2 * CONTEXT_LENGTH, ..config() };
    let (mut engine, _) = engine(told, ROOMY);
    let short = endless(&[1, 2], 20);
    let long = endless(&[5; 60], 20);
    let short_id = engine.submit(short.clone()).unwrap();
    let long_id = engine.submit(long).unwrap();
    let transcripts = run(&mut engine);
    assert_eq!(transcripts[&short_id], alone(&short));
    let failed = &transcripts[&long_id];
    assert_eq!(failed.tokens.len(), 5, "64 positions are computed, each gives a token");
    match &failed.end {
        Some(End::Failed(message)) => assert!(message.contains("past the context"), "{message}"),
        end => panic!("{end:?}"),
    }
    assert_eq!(engine.load().kv_blocks_used, 0);
}

#[test]
fn load_counts_what_happened() {
    let plain = engine::engine::EngineConfig { draft_tokens_max: 0, ..config() };
    let (mut engine, _) = engine(plain, ROOMY);
    assert_eq!(engine.load().kv_blocks_total, ROOMY.block_count);
    engine.submit(endless(&[1, 2, 3, 4, 5], 4)).unwrap();
    assert_eq!(engine.load().sequences_waiting, 1);
    engine.advance(Now::ZERO);
    let load = engine.load();
    assert_eq!((load.sequences_running, load.sequences_waiting, load.kv_blocks_used), (1, 0, 2));
    run(&mut engine);
    let load = engine.load();
    assert_eq!((load.prompt_tokens_total, load.generated_tokens_total), (5, 4));
    // 5 prompt tokens and 3 of the answer, in 3 layers, 2 experts each.
    assert_eq!(load.expert_rows_local_total, 8 * 3 * 2);
    assert_eq!((load.sequences_running, load.kv_blocks_used), (0, 0));
}

#[test]
fn logits_that_forbid_everything_fail_the_sequence() {
    let (mut engine, _) = engine(config(), ROOMY);
    let mut forbidden = request(&[1]);
    forbidden.sampling.logit_bias =
        (0..VOCAB_SIZE as u32).map(|id| (id, f32::NEG_INFINITY)).collect::<BTreeMap<_, _>>();
    let id = engine.submit(forbidden).unwrap();
    let mut transcripts = BTreeMap::new();
    while engine.advance(Now::ZERO) != Advance::Idle {
        take_events(&mut engine, &mut transcripts);
    }
    assert!(matches!(&transcripts[&id].end, Some(End::Failed(message)) if message.contains("24")));
}
