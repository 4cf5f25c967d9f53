//! A request that starts from an earlier home's tokens goes on exactly where that home stood.

use crate::batching::any_request;
use crate::harness::{
    Transcript, Transcripts, alone, config, engine, greedy, property_config, request, run,
};
use crate::toy::END_TOKEN;
use engine::engine::EngineConfig;
use engine::request::{EndOfSequence, Request};
use model::executor::CacheShape;
use proptest::prelude::*;

/// The request as another home gets it after `cut` tokens.
fn resumed(request: &Request, whole: &Transcript, cut: usize) -> Request {
    Request { emitted_token_ids: whole.token_ids()[..cut].to_vec(), ..request.clone() }
}

fn check_cut(whole: &Transcript, rest: &Transcript, cut: usize) {
    assert_eq!(rest.tokens, whole.tokens[cut..], "cut at {cut}");
    assert_eq!(rest.end, whole.end, "cut at {cut}");
    let before: String = whole.tokens[..cut].iter().map(|event| event.text.as_str()).collect();
    assert_eq!(before + &rest.text(), whole.text());
}

proptest! {
    #![proptest_config(property_config(256))]

    #[test]
    fn every_cut_gives_the_same_rest(request in any_request()) {
        let whole = alone(&request);
        // All cuts at once, in a cache so small that they preempt each other.
        let bounds = EngineConfig { step_tokens_max: 13, ..config() };
        let (mut engine, _) = engine(bounds, CacheShape { block_tokens: 3, block_count: 24 });
        let ids: Vec<_> = (0..=whole.tokens.len())
            .map(|cut| engine.submit(resumed(&request, &whole, cut)).unwrap())
            .collect();
        let transcripts: Transcripts = run(&mut engine);
        for (cut, id) in ids.iter().enumerate() {
            check_cut(&whole, &transcripts[id], cut);
        }
    }
}

#[test]
fn finished_answers_finish_at_once() {
    let (mut engine, batches) = engine(config(), crate::harness::ROOMY);
    let mut ended = request(&[1, 2]);
    ended.emitted_token_ids = vec![3, 4, END_TOKEN];
    let mut full = request(&[1, 2]);
    full.stop.max_tokens = 2;
    full.emitted_token_ids = vec![3, 4];
    let mut stopped = request(&[1, 2]);
    stopped.stop.strings = vec!["ca".to_owned()];
    stopped.emitted_token_ids = vec![3, 1];
    for request in [ended, full, stopped] {
        engine.submit(request).unwrap();
    }
    let transcripts = run(&mut engine);
    assert_eq!(transcripts.len(), 3);
    assert!(transcripts.values().all(|transcript| transcript.tokens.is_empty()));
    assert!(transcripts.values().all(|transcript| transcript.end.is_some()));
    assert!(batches.lock().unwrap().is_empty(), "nothing had to be computed");
}

#[test]
fn emitted_tokens_count_against_the_limit_and_in_penalties() {
    let mut penalised = request(&[1, 2, 3]);
    penalised.sampling.frequency_penalty = 1.5;
    penalised.sampling.repetition_penalty = 1.3;
    penalised.stop.end_of_sequence = EndOfSequence::Ignore;
    penalised.stop.max_tokens = 30;
    let whole = alone(&penalised);
    assert_ne!(
        whole.token_ids(),
        alone(&Request { sampling: greedy(), ..penalised.clone() }).token_ids()
    );
    for cut in 0..=30 {
        check_cut(&whole, &alone(&resumed(&penalised, &whole, cut)), cut);
    }
}
