//! Speed of tiny-r1 with and without drafts, side by side: `cargo run --release -p engine --example drafts`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use engine::engine::{Advance, Engine, EngineConfig, EngineLoad, Now, Vocabulary};
use engine::exchange::{PeerId, Placement};
use engine::request::{EndOfSequence, Request, Sampling, SequenceEvent, SequenceId, Stop};
use model::executor::{CacheShape, ExpertAddress, SharedExperts};
use model::kernels::KernelPath;
use model::load::ModelLoader;
use model::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONTEXT_LENGTH: usize = 512;
const ANSWERS: usize = 24;
/// Between two agents: gRPC, both schedulers, and a network inside one building.
const ROUND_TRIP: Duration = Duration::from_micros(400);

/// Where the experts are.
#[derive(Clone, Copy, Debug)]
enum Experts {
    Here,
    /// On a peer. [`ROUND_TRIP`] is added for each answer, not waited for.
    Away,
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

/// What one run took and gave.
struct Run {
    tokens: BTreeMap<SequenceId, Vec<u32>>,
    seconds: f64,
    load: EngineLoad,
    passes: u64,
}

fn engine(
    loader: &ModelLoader,
    (place, all): (Experts, &SharedExperts),
    draft_tokens_max: usize,
    together: usize,
) -> Engine {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1");
    let peer = PeerId("peer".into());
    let (experts, copies): (SharedExperts, BTreeMap<ExpertAddress, Vec<PeerId>>) = match place {
        Experts::Here => (Arc::clone(all), BTreeMap::new()),
        Experts::Away => {
            let none = loader.load_experts(None, &[].into(), &mut |_| {}).unwrap();
            let addresses = loader.expert_addresses().into_iter();
            (Arc::new(none), addresses.map(|address| (address, vec![peer.clone()])).collect())
        }
    };
    let cache = CacheShape { block_tokens: 16, block_count: 2048 };
    let executor = loader.load_executor(cache, CONTEXT_LENGTH, &mut |_| {}).unwrap();
    let config = EngineConfig {
        context_length: CONTEXT_LENGTH,
        step_tokens_max: 512,
        sequences_max: together,
        queue_max: ANSWERS,
        expert_deadline: Duration::from_secs(1),
        draft_tokens_max,
        end_token_ids: loader.config().end_token_ids.clone(),
    };
    let placement = Placement { generation: 1, local: PeerId("home".into()), copies };
    let vocabulary = Arc::new(Tokens(Tokenizer::open(&directory).unwrap()));
    let mut engine = Engine::new(config, executor, experts, vocabulary, placement);
    engine.handle_peer_up(Now::ZERO, &peer);
    engine
}

fn requests(temperature: f32) -> Vec<Request> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1");
    let tokenizer = Tokenizer::open(&directory).unwrap();
    let evaluation = std::fs::read_to_string(directory.join("eval.jsonl")).unwrap();
    let lines = evaluation.lines().collect::<Vec<_>>();
    let chosen = lines.iter().step_by((lines.len() / ANSWERS).max(1)).take(ANSWERS);
    let request = |(seed, line): (usize, &&str)| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let question = line["question"].as_str().unwrap();
        let prompt = format!("<｜begin▁of▁sentence｜><｜User｜>{question}<｜Assistant｜><think>\n");
        Request {
            prompt_token_ids: tokenizer.encode_prompt(&prompt).unwrap(),
            emitted_token_ids: Vec::new(),
            sampling: Sampling {
                temperature,
                top_k: None,
                top_p: 0.95,
                min_p: 0.0,
                repetition_penalty: 1.0,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                logit_bias: BTreeMap::new(),
                seed: seed as u64,
                top_logprobs: None,
            },
            stop: Stop {
                max_tokens: 300,
                strings: Vec::new(),
                token_ids: Vec::new(),
                end_of_sequence: EndOfSequence::Stop,
            },
        }
    };
    chosen.enumerate().map(request).collect()
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    Stands,
    Goes,
}

/// Time that this thread has had a processor for, so that others on the machine do not count.
fn working_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Plays the peer; says whether there was a call.
fn answer_calls(engine: &mut Engine, experts: &SharedExperts) -> bool {
    let mut answered = false;
    while let Some(call) = engine.poll_transmit() {
        let outputs = experts.compute(call.layer, &call.calls, &call.rows).unwrap();
        engine.handle_reply(Now::ZERO, &call.peer, call.call_id, Ok(outputs));
        answered = true;
    }
    answered
}

fn run(engine: &mut Engine, experts: &SharedExperts, clock: Clock, requests: &[Request]) -> Run {
    for request in requests {
        engine.submit(request.clone()).unwrap();
    }
    let start = working_time();
    let wall = Instant::now();
    // A clock that stands makes the engine draft always, one that goes lets it find out what is faster.
    let now = |clock, waited| match clock {
        Clock::Stands => Now::ZERO,
        Clock::Goes => wall.elapsed() + waited,
    };
    let mut waited = Duration::ZERO;
    while engine.advance(now(clock, waited)) != Advance::Idle {
        if answer_calls(engine, experts) {
            waited += ROUND_TRIP;
        }
    }
    let seconds = (working_time() - start + waited).as_secs_f64();
    let mut tokens: BTreeMap<SequenceId, Vec<u32>> = BTreeMap::new();
    while let Some((id, event)) = engine.poll_event() {
        if let SequenceEvent::Token(token) = event {
            tokens.entry(id).or_default().push(token.token_id);
        }
    }
    Run { tokens, seconds, load: engine.load(), passes: engine.passes() }
}

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1");
    let loader = ModelLoader::open(&directory, KernelPath::best()).unwrap();
    let everything = loader.expert_addresses().into_iter().collect();
    let experts: SharedExperts =
        Arc::new(loader.load_experts(None, &everything, &mut |_| {}).unwrap());
    println!("{} tiny-r1, {ANSWERS} answers, round trip {ROUND_TRIP:?}", KernelPath::best());
    for place in [Experts::Here, Experts::Away] {
        for (temperature, together) in [(0.0, 1), (0.6, 1), (0.0, 4)] {
            compare(&loader, (place, &experts), temperature, together);
        }
    }
}

fn compare(
    loader: &ModelLoader,
    experts: (Experts, &SharedExperts),
    temperature: f32,
    together: usize,
) {
    let requests = requests(temperature);
    for (drafts, clock) in [(1, Clock::Stands), (2, Clock::Stands), (3, Clock::Goes)] {
        let plain = run(&mut engine(loader, experts, 0, together), experts.1, clock, &requests);
        let drafted =
            run(&mut engine(loader, experts, drafts, together), experts.1, clock, &requests);
        assert_eq!(drafted.tokens, plain.tokens, "the answers differ");
        let load = &drafted.load;
        println!(
            "experts {:?}, temperature {temperature}, {together:2} together, {drafts} drafts, clock {clock:?}: \
             {:5.0} tokens/s, {:.2}x, {} of {} drafts accepted, {:.2} tokens a step",
            experts.0,
            load.generated_tokens_total as f64 / drafted.seconds,
            plain.seconds / drafted.seconds,
            load.accepted_tokens_total,
            load.drafted_tokens_total,
            load.generated_tokens_total as f64 / drafted.passes as f64,
        );
    }
}
