//! Drafting changes how fast an answer comes and never what it says.

use crate::harness::{
    CONTEXT_LENGTH, ROOMY, Transcripts, config, engine, greedy, property_config, request, run,
    take_events,
};
use crate::toy::{LAYERS, ToyExecutor, ToyExperts, ToyVocabulary, VOCAB_SIZE, all_experts};
use engine::engine::{Advance, Engine, EngineConfig, EngineLoad, Now, Vocabulary};
use engine::exchange::{PeerId, Placement};
use engine::request::{EndOfSequence, Request, Sampling};
use engine::speculation::{Acceptance, Pace, Way};
use model::executor::{CacheShape, ExpertAddress};
use model::kernels::KernelPath;
use model::load::ModelLoader;
use model::tokenizer::Tokenizer;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

fn answers(
    bounds: EngineConfig,
    shape: CacheShape,
    requests: &[Request],
) -> (Transcripts, EngineLoad) {
    let (mut engine, _) = engine(bounds, shape);
    for request in requests {
        engine.submit(request.clone()).unwrap();
    }
    let transcripts = run(&mut engine);
    (transcripts, engine.load())
}

fn any_request() -> impl Strategy<Value = Request> {
    let prompt = proptest::collection::vec(0..VOCAB_SIZE as u32, 1..20);
    let bias = proptest::collection::btree_map(0..VOCAB_SIZE as u32, -3.0..3.0f32, 0..3);
    (prompt, 1usize..30, any::<u64>(), any::<bool>(), any::<bool>(), bias).prop_map(
        |(prompt, max_tokens, seed, is_sampled, ignores_end, logit_bias)| {
            let mut request = request(&prompt);
            request.stop.max_tokens = max_tokens;
            request.stop.strings = vec!["stopab".to_owned(), "日c".to_owned()];
            if ignores_end {
                request.stop.end_of_sequence = EndOfSequence::Ignore;
            }
            let penalties = if is_sampled { 0.4 } else { 0.0 };
            request.sampling = Sampling {
                temperature: if is_sampled { 0.8 } else { 0.0 },
                frequency_penalty: penalties,
                repetition_penalty: 1.0 + penalties,
                logit_bias,
                seed,
                top_logprobs: Some(2),
                ..greedy()
            };
            request
        },
    )
}

proptest! {
    #![proptest_config(property_config(256))]

    #[test]
    fn drafts_change_no_answer(
        requests in proptest::collection::vec(any_request(), 1..8),
        draft_tokens_max in 1usize..5,
        step_tokens_max in 1usize..40,
        spare in 0usize..20,
    ) {
        // The longest sequence fits, and what is beside it is often too little for all.
        let longest = requests
            .iter()
            .map(|request| request.prompt_token_ids.len() + request.stop.max_tokens)
            .max();
        let block_count = longest.unwrap().div_ceil(4) + spare;
        let shape = CacheShape { block_tokens: 4, block_count };
        let bounds = EngineConfig { step_tokens_max, draft_tokens_max, ..config() };
        let (drafted, load) = answers(bounds, shape, &requests);
        let (plain, _) = answers(EngineConfig { draft_tokens_max: 0, ..config() }, ROOMY, &requests);
        prop_assert_eq!(drafted, plain);
        prop_assert_eq!(load.kv_blocks_used, 0);
    }
}

#[test]
fn right_drafts_save_steps_and_wrong_ones_are_counted() {
    let mut request = request(&[1, 2, 3]);
    request.stop.max_tokens = 60;
    request.stop.end_of_sequence = EndOfSequence::Ignore;
    let steps = |draft_tokens_max| {
        let (mut engine, batches) = engine(EngineConfig { draft_tokens_max, ..config() }, ROOMY);
        engine.submit(request.clone()).unwrap();
        run(&mut engine);
        (batches.lock().unwrap().len(), engine.load())
    };
    let (plain, load) = steps(0);
    assert_eq!((plain, load.drafted_tokens_total), (60, 0));
    let (drafted, load) = steps(3);
    // The toy's drafts are right three times in four.
    assert!(drafted < 35, "{drafted} steps");
    let (right, all) = (load.accepted_tokens_total, load.drafted_tokens_total);
    assert!(right * 2 > all && right < all, "{right} of {all}");
    assert_eq!(load.generated_tokens_total, 60);
}

/// An engine whose drafting layer's experts only `peers` hold.
fn without_draft_experts(peers: &[PeerId]) -> Engine {
    let is_draft = |address: &ExpertAddress| address.layer == LAYERS as u32;
    let own: BTreeSet<ExpertAddress> =
        all_experts().into_iter().filter(|address| !is_draft(address)).collect();
    let copies =
        all_experts().into_iter().filter(is_draft).map(|it| (it, peers.to_vec())).collect();
    let placement = Placement { generation: 1, local: PeerId("home".into()), copies };
    let executor = Box::new(ToyExecutor::new(ROOMY, CONTEXT_LENGTH));
    let experts = Arc::new(ToyExperts::some(own));
    Engine::new(config(), executor, experts, Arc::new(ToyVocabulary), placement)
}

#[test]
fn experts_that_nobody_has_stop_drafts_and_nothing_else() {
    let request = request(&[4, 5, 6]);
    let mut engine = without_draft_experts(&[]);
    let id = engine.submit(request.clone()).unwrap();
    // `run` panics when the engine waits.
    assert_eq!(run(&mut engine)[&id], crate::harness::alone(&request));
    assert_eq!(engine.load().drafted_tokens_total, 0);
}

#[test]
fn a_peer_that_hangs_delays_drafting_once_and_briefly() {
    let request = request(&[4, 5, 6]);
    let peer = PeerId("mute".into());
    let mut engine = without_draft_experts(std::slice::from_ref(&peer));
    engine.handle_peer_up(Now::ZERO, &peer);
    let id = engine.submit(request.clone()).unwrap();
    let (mut now, mut waits) = (Now::ZERO, 0);
    let mut transcripts = Transcripts::new();
    loop {
        while engine.poll_transmit().is_some() {}
        let advance = engine.advance(now);
        take_events(&mut engine, &mut transcripts);
        match advance {
            Advance::Ran => {}
            Advance::Waiting { until } => {
                assert!(until > now);
                now = until;
                waits += 1;
            }
            Advance::Idle => break,
        }
    }
    assert_eq!(transcripts[&id], crate::harness::alone(&request));
    // The answer is shorter than the pause that follows.
    assert_eq!(waits, 1);
    assert!(now < config().expert_deadline / 4, "{now:?}");
}

#[test]
fn drafts_become_fewer_when_they_fail_and_are_tried_again() {
    let mut acceptance = Acceptance::default();
    assert_eq!(acceptance.drafts(1, 3), 3);
    assert_eq!(acceptance.drafts(1, 2), 2);
    for _ in 0..40 {
        acceptance.accepted(0);
        acceptance.refused(1);
    }
    assert_eq!(acceptance.drafts(1, 3), 1);
    for _ in 0..40 {
        acceptance.refused(0);
    }
    assert_eq!((acceptance.drafts(1, 3), acceptance.drafts(64, 3)), (0, 1));
    for _ in 0..80 {
        acceptance.accepted(0);
        acceptance.accepted(1);
    }
    assert_eq!(acceptance.drafts(1, 3), 3);
}

/// The share of the last 1000 of 2000 steps that went each way, in percent drafting.
fn drafting_percent(step: Duration, drafting_step: Duration, tokens: u64) -> u64 {
    let mut pace = Pace::default();
    let mut drafting = 0;
    for index in 0..2000 {
        let way = pace.choose(1);
        match way {
            Way::Drafting => pace.record(way, 1, tokens, drafting_step),
            Way::Plain => pace.record(way, 1, 1, step),
        }
        drafting += u64::from(index >= 1000 && way == Way::Drafting);
    }
    drafting / 10
}

#[test]
fn the_faster_way_is_found() {
    let ms = Duration::from_millis;
    assert!(drafting_percent(ms(10), ms(15), 2) > 90);
    assert!(drafting_percent(ms(10), ms(25), 2) < 10);
    // A clock that stands tells nothing.
    assert_eq!(drafting_percent(ms(0), ms(0), 2), 100);
    // What holds for one sequence need not hold for many.
    let mut pace = Pace::default();
    for _ in 0..40 {
        let way = pace.choose(1);
        pace.record(way, 1, 1, ms(if way == Way::Plain { 1 } else { 5 }));
    }
    assert_eq!((pace.choose(1), pace.choose(16)), (Way::Plain, Way::Drafting));
}

struct Tokens(Tokenizer);

impl Vocabulary for Tokens {
    fn token_bytes(&self, token_id: u32) -> Vec<u8> {
        self.0.token_bytes(token_id)
    }

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }
}

fn tiny_r1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1")
}

/// Some of the evaluation's prompts, greedy and sampled with penalties in turn.
fn evaluation_requests() -> Vec<Request> {
    let tokenizer = Tokenizer::open(&tiny_r1()).unwrap();
    let evaluation = std::fs::read_to_string(tiny_r1().join("eval.jsonl")).unwrap();
    let lines: Vec<&str> = evaluation.lines().collect();
    let request = |(index, line): (usize, &&str)| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let question = line["question"].as_str().unwrap();
        let prompt = format!("<｜begin▁of▁sentence｜><｜User｜>{question}<｜Assistant｜><think>\n");
        let mut request = request(&tokenizer.encode(&prompt).unwrap());
        request.stop.max_tokens = 80;
        if index % 2 == 1 {
            request.sampling = Sampling {
                temperature: 0.8,
                top_p: 0.95,
                repetition_penalty: 1.05,
                presence_penalty: 0.1,
                frequency_penalty: 0.05,
                seed: index as u64,
                top_logprobs: Some(3),
                ..greedy()
            };
        }
        request
    };
    lines.iter().step_by(lines.len() / 16).enumerate().map(request).collect()
}

fn tiny_engine(loader: &ModelLoader, bounds: &EngineConfig, block_count: usize) -> Engine {
    let everything = loader.expert_addresses().into_iter().collect();
    let experts = Arc::new(loader.load_experts(None, &everything, &mut |_| {}).unwrap());
    let cache = CacheShape { block_tokens: 16, block_count };
    let executor = loader.load_executor(cache, 512, &mut |_| {}).unwrap();
    let bounds = EngineConfig {
        context_length: 512,
        end_token_ids: loader.config().end_token_ids.clone(),
        ..bounds.clone()
    };
    let placement =
        Placement { generation: 1, local: PeerId("home".into()), copies: BTreeMap::new() };
    let vocabulary = Arc::new(Tokens(Tokenizer::open(&tiny_r1()).unwrap()));
    Engine::new(bounds, executor, experts, vocabulary, placement)
}

fn tiny_answers(
    loader: &ModelLoader,
    bounds: &EngineConfig,
    block_count: usize,
    requests: &[Request],
) -> (Transcripts, EngineLoad) {
    let mut engine = tiny_engine(loader, bounds, block_count);
    for request in requests {
        engine.submit(request.clone()).unwrap();
    }
    (run(&mut engine), engine.load())
}

#[test]
fn tiny_r1_says_the_same_and_its_layer_guesses_well() {
    let loader = ModelLoader::open(&tiny_r1(), KernelPath::best()).unwrap();
    let requests = evaluation_requests();
    let plain = EngineConfig { draft_tokens_max: 0, ..config() };
    let (expected, _) = tiny_answers(&loader, &plain, 512, &requests);
    for (draft_tokens_max, sequences_max, step_tokens_max, block_count) in
        [(1, 1, 256, 512), (3, 1, 256, 512), (3, 16, 256, 512), (2, 16, 11, 512), (3, 16, 64, 12)]
    {
        let bounds = EngineConfig { draft_tokens_max, sequences_max, step_tokens_max, ..config() };
        let (transcripts, load) = tiny_answers(&loader, &bounds, block_count, &requests);
        // Log probabilities too, to the last bit.
        assert_eq!(transcripts, expected, "{draft_tokens_max} {sequences_max} {step_tokens_max}");
        assert_eq!(load.preemptions_total > 0, block_count == 12);
        let (right, all) = (load.accepted_tokens_total, load.drafted_tokens_total);
        println!("{draft_tokens_max} drafts, {sequences_max} together: {right} of {all} accepted");
        if draft_tokens_max == 1 {
            // With embedding and state in the wrong order next to nothing is accepted.
            assert!(all > 300 && right * 10 > all * 9, "{right} of {all}");
        }
    }
}

#[test]
fn a_replay_with_drafts_goes_on_where_plain_decoding_stood() {
    let loader = ModelLoader::open(&tiny_r1(), KernelPath::best()).unwrap();
    let requests = evaluation_requests();
    let plain = EngineConfig { draft_tokens_max: 0, ..config() };
    let (expected, _) = tiny_answers(&loader, &plain, 512, &requests[..4]);
    for (request, transcript) in requests.iter().zip(expected.values()) {
        let emitted = transcript.token_ids();
        let (before, after) = emitted.split_at(emitted.len() / 2);
        let replay = Request { emitted_token_ids: before.to_vec(), ..request.clone() };
        let (replayed, _) = tiny_answers(&loader, &config(), 512, &[replay]);
        assert_eq!(replayed.values().next().unwrap().token_ids(), after);
    }
}
