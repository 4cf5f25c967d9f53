//! Real checkpoints through the engine: the golden transcripts, alone, together, preempted and sharded.

use crate::harness::{End, Transcript, Transcripts, config, greedy, run, take_events};
use engine::engine::{Advance, Engine, EngineConfig, Now, Vocabulary};
use engine::exchange::{PeerId, Placement, Transmit};
use engine::request::{EndOfSequence, FinishReason, Request, Sampling, SequenceId, Stop};
use model::executor::{CacheShape, ExpertAddress, SharedExperts};
use model::kernels::KernelPath;
use model::load::ModelLoader;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CONTEXT_LENGTH: usize = 512;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(name)
}

/// Any bytes will do; these let texts be compared too.
#[derive(Debug)]
struct Numbers {
    vocab_size: usize,
}

impl Vocabulary for Numbers {
    fn token_bytes(&self, token_id: u32) -> Vec<u8> {
        format!("{token_id} ").into_bytes()
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

struct Golden {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
}

fn golden(name: &str) -> Vec<Golden> {
    let text = std::fs::read(fixture(name).join("golden.json")).unwrap();
    let answers: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let ids = |value: &serde_json::Value| {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let answers = answers.as_array().unwrap().iter();
    answers
        .map(|answer| Golden { prompt: ids(&answer["prompt"]), greedy: ids(&answer["greedy"]) })
        .collect()
}

/// One agent's engine and the experts with which it answers the others.
struct Agent {
    engine: Engine,
    experts: SharedExperts,
    transcripts: Transcripts,
}

struct Cluster {
    agents: Vec<Agent>,
}

fn name(agent: usize) -> PeerId {
    PeerId(agent.to_string())
}

impl Cluster {
    /// Expert i is on agents i and i + 1.
    fn new(loader: &ModelLoader, count: usize, cache: CacheShape) -> Self {
        let addresses = loader.expert_addresses();
        let holders = |index: usize| [index % count, (index + 1) % count];
        let copies: BTreeMap<ExpertAddress, Vec<PeerId>> = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| (*address, holders(index).map(name).to_vec()))
            .collect();
        let agent = |agent: usize| {
            let wanted = copies
                .iter()
                .filter(|(_, holders)| holders.contains(&name(agent)))
                .map(|(address, _)| *address)
                .collect();
            let experts: SharedExperts =
                Arc::new(loader.load_experts(None, &wanted, &mut |_| {}).unwrap());
            let executor = loader.load_executor(cache, CONTEXT_LENGTH, &mut |_| {}).unwrap();
            let vocabulary = Arc::new(Numbers { vocab_size: loader.config().vocab_size });
            let bounds =
                EngineConfig { context_length: CONTEXT_LENGTH, step_tokens_max: 48, ..config() };
            let placement = Placement { generation: 1, local: name(agent), copies: copies.clone() };
            let shared = Arc::clone(&experts);
            let mut engine = Engine::new(bounds, executor, shared, vocabulary, placement);
            for peer in (0..count).filter(|peer| *peer != agent) {
                engine.handle_peer_up(Now::ZERO, &name(peer));
            }
            Agent { engine, experts, transcripts: Transcripts::new() }
        };
        Self { agents: (0..count).map(agent).collect() }
    }

    /// Runs all agents in turns until nobody has work.
    fn run(&mut self) {
        loop {
            let mut is_idle = true;
            for index in 0..self.agents.len() {
                is_idle &= self.turn(index) == Advance::Idle;
            }
            if is_idle {
                return;
            }
        }
    }

    fn turn(&mut self, index: usize) -> Advance {
        let agent = &mut self.agents[index];
        let advance = agent.engine.advance(Now::ZERO);
        take_events(&mut agent.engine, &mut agent.transcripts);
        while let Some(call) = self.agents[index].engine.poll_transmit() {
            let Transmit { peer, call_id, layer, calls, rows, .. } = call;
            let other: usize = peer.0.parse().unwrap();
            let outputs = self.agents[other].experts.compute(layer, &calls, &rows).unwrap();
            self.agents[index].engine.handle_reply(Now::ZERO, &peer, call_id, Ok(outputs));
        }
        advance
    }
}

fn request(prompt: &[u32], max_tokens: usize, sampling: Sampling) -> Request {
    Request {
        prompt_token_ids: prompt.to_vec(),
        emitted_token_ids: Vec::new(),
        sampling: Sampling { top_logprobs: Some(3), ..sampling },
        stop: Stop {
            max_tokens,
            strings: Vec::new(),
            token_ids: Vec::new(),
            end_of_sequence: EndOfSequence::Ignore,
        },
    }
}

const ROOMY: CacheShape = CacheShape { block_tokens: 16, block_count: 256 };

fn check_golden(name: &str) {
    let loader = ModelLoader::open(&fixture(name), KernelPath::Reference).unwrap();
    let golden = golden(name);
    // The small cache holds the longest answer and little beside it.
    let longest = golden.iter().map(|golden| golden.prompt.len() + golden.greedy.len()).max();
    let tight = CacheShape { block_tokens: 8, block_count: longest.unwrap().div_ceil(8) + 2 };
    for cache in [ROOMY, tight] {
        let mut cluster = Cluster::new(&loader, 1, cache);
        let engine = &mut cluster.agents[0].engine;
        let ids: Vec<SequenceId> = golden
            .iter()
            .map(|golden| {
                let request = request(&golden.prompt, golden.greedy.len(), greedy());
                engine.submit(request).unwrap()
            })
            .collect();
        let transcripts = run(engine);
        for (id, golden) in ids.iter().zip(&golden) {
            let transcript = &transcripts[id];
            assert_eq!(transcript.token_ids(), golden.greedy, "{name} {cache:?}");
            let end = End::Finished {
                reason: FinishReason::Length,
                stop_string: None,
                text: String::new(),
            };
            assert_eq!(transcript.end, Some(end));
        }
    }
}

#[test]
fn golden_transcripts_of_deepseek_v3() {
    for name in ["v3", "v3-fp8", "v3-onegroup", "v3-yarn"] {
        check_golden(name);
    }
}

#[test]
fn golden_transcripts_of_deepseek_v2() {
    check_golden("v2-lite");
}

#[test]
fn golden_transcripts_of_dense_models() {
    check_golden("qwen2");
    check_golden("llama3");
}

/// Greedy and seeded requests of one checkpoint.
fn requests(golden: &[Golden]) -> Vec<Request> {
    let seeded = Sampling { temperature: 0.8, top_p: 0.95, seed: 42, ..greedy() };
    golden
        .iter()
        .flat_map(|golden| {
            [greedy(), seeded.clone()].map(|sampling| request(&golden.prompt, 12, sampling))
        })
        .collect()
}

fn sharded(loader: &ModelLoader, count: usize, requests: &[Request]) -> Vec<Transcript> {
    let mut cluster = Cluster::new(loader, count, ROOMY);
    let homes: Vec<(usize, SequenceId)> = requests
        .iter()
        .enumerate()
        .map(|(index, request)| {
            let home = index % count;
            (home, cluster.agents[home].engine.submit(request.clone()).unwrap())
        })
        .collect();
    cluster.run();
    let remote = |agent: &Agent| agent.engine.load().expert_rows_remote_total;
    // With three agents and two copies, a third of the experts are elsewhere.
    assert_eq!(cluster.agents.iter().all(|agent| remote(agent) > 0), count > 2);
    homes.iter().map(|(home, id)| cluster.agents[*home].transcripts[id].clone()).collect()
}

#[test]
fn sharded_answers_are_bit_identical() {
    for name in ["v3", "v3-fp8", "v2-lite"] {
        for path in [KernelPath::Reference, KernelPath::best()] {
            let loader = ModelLoader::open(&fixture(name), path).unwrap();
            let requests = requests(&golden(name));
            let single = sharded(&loader, 1, &requests);
            assert!(single.iter().all(|transcript| transcript.tokens.len() == 12));
            for count in [2, 3, 5] {
                // Log probabilities are compared too: they are equal to the last bit.
                assert_eq!(sharded(&loader, count, &requests), single, "{name} {path:?} {count}");
            }
        }
    }
}
