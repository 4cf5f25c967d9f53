//! Engines around the toy model, and what they answer.

use crate::toy::{Batches, END_TOKEN, ToyExecutor, ToyExperts, ToyVocabulary};
use engine::engine::{Advance, Engine, EngineConfig, Now};
use engine::exchange::{PeerId, Placement};
use engine::request::{
    EndOfSequence, FinishReason, Request, Sampling, SequenceEvent, SequenceId, Stop, TokenEvent,
};
use model::executor::CacheShape;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const CONTEXT_LENGTH: usize = 64;

/// What one sequence reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    pub tokens: Vec<TokenEvent>,
    pub end: Option<End>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Finished { reason: FinishReason, stop_string: Option<String>, text: String },
    Failed(String),
}

impl Transcript {
    pub fn token_ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|event| event.token_id).collect()
    }

    /// Everything that a client sees.
    pub fn text(&self) -> String {
        let mut text: String = self.tokens.iter().map(|event| event.text.as_str()).collect();
        if let Some(End::Finished { text: last, .. }) = &self.end {
            text.push_str(last);
        }
        text
    }

    pub fn record(&mut self, event: SequenceEvent) {
        assert!(self.end.is_none(), "an event after the end: {event:?}");
        match event {
            // Depends on what ran before; an answer does not.
            SequenceEvent::Admitted { .. } => {}
            SequenceEvent::Token(token) => self.tokens.push(token),
            SequenceEvent::Finished { reason, stop_string, text } => {
                self.end = Some(End::Finished { reason, stop_string, text });
            }
            SequenceEvent::Failed { message } => self.end = Some(End::Failed(message)),
        }
    }
}

pub type Transcripts = BTreeMap<SequenceId, Transcript>;

pub fn take_events(engine: &mut Engine, transcripts: &mut Transcripts) {
    while let Some((id, event)) = engine.poll_event() {
        transcripts.entry(id).or_default().record(event);
    }
}

/// Runs until nothing has work. Everything is local, so it never waits.
pub fn run(engine: &mut Engine) -> Transcripts {
    let mut transcripts = Transcripts::new();
    loop {
        let advance = engine.advance(Now::ZERO);
        take_events(engine, &mut transcripts);
        match advance {
            Advance::Ran => {}
            Advance::Idle => return transcripts,
            Advance::Waiting { until } => panic!("waits until {until:?} for nobody"),
        }
    }
}

pub fn config() -> EngineConfig {
    EngineConfig {
        context_length: CONTEXT_LENGTH,
        step_tokens_max: 256,
        sequences_max: 16,
        queue_max: 64,
        expert_deadline: Duration::from_millis(100),
        draft_tokens_max: 3,
        end_token_ids: vec![END_TOKEN],
    }
}

pub const ROOMY: CacheShape = CacheShape { block_tokens: 4, block_count: 1024 };

pub fn engine(config: EngineConfig, shape: CacheShape) -> (Engine, Batches) {
    let executor = ToyExecutor::new(shape, CONTEXT_LENGTH);
    let batches = executor.batches();
    let placement =
        Placement { generation: 1, local: PeerId("home".into()), copies: BTreeMap::new() };
    let experts = Arc::new(ToyExperts::all());
    let vocabulary = Arc::new(ToyVocabulary);
    (Engine::new(config, Box::new(executor), experts, vocabulary, placement), batches)
}

pub fn greedy() -> Sampling {
    Sampling {
        temperature: 0.0,
        top_k: None,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: BTreeMap::new(),
        seed: 0,
        top_logprobs: None,
    }
}

pub fn request(prompt_token_ids: &[u32]) -> Request {
    Request {
        prompt_token_ids: prompt_token_ids.to_vec(),
        emitted_token_ids: Vec::new(),
        sampling: greedy(),
        stop: Stop {
            max_tokens: 20,
            strings: Vec::new(),
            token_ids: Vec::new(),
            end_of_sequence: EndOfSequence::Stop,
        },
    }
}

/// The answer of an engine that has nothing else to do.
pub fn alone(request: &Request) -> Transcript {
    let (mut engine, _) = engine(config(), ROOMY);
    let id = engine.submit(request.clone()).unwrap();
    run(&mut engine).remove(&id).unwrap()
}

/// The same cases in every run.
pub fn property_config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x0B0F_1E00),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
