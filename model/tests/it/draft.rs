//! The multi-token-prediction layer against an independent pass (`naive_draft.py`), and its contract.

use crate::oracle::{fixture, tiny_r1};
use crate::run::{Model, bits, segment};
use model::executor::{
    DraftSegment, Drafting, ExecutorError, ExpertCall, Experts, Logits, LogitsWanted, Progress,
    Segment,
};
use model::kernels::KernelPath;

/// As for whole models on the reference path.
const LOGIT_DIFFERENCE_MAX: f32 = 1e-3;

struct Golden {
    prompt: Vec<u32>,
    next: u32,
    first: Vec<f32>,
    drafted: u32,
    second: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    let text = std::fs::read(fixture("../derived/tiny-r1-draft.json")).unwrap();
    let answers: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let id = |value: &serde_json::Value| value.as_u64().unwrap() as u32;
    let logits = |value: &serde_json::Value| {
        value.as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap() as f32).collect()
    };
    let answers = answers.as_array().unwrap().iter();
    answers
        .map(|answer| Golden {
            prompt: answer["prompt"].as_array().unwrap().iter().map(id).collect(),
            next: id(&answer["next"]),
            first: logits(&answer["first"]),
            drafted: id(&answer["drafted"]),
            second: logits(&answer["second"]),
        })
        .collect()
}

fn tiny(path: KernelPath) -> Model {
    Model::load(&tiny_r1(), path, 8)
}

/// Runs a draft pass with the model's own experts.
fn draft(model: &mut Model, segments: Vec<DraftSegment>) -> Logits {
    let mut progress = model.executor.begin_draft(segments).unwrap();
    loop {
        let routed = match progress {
            Progress::Experts(routed) => routed,
            Progress::Finished(logits) => return logits,
        };
        assert_eq!(routed.layer, 5);
        let outputs: Vec<Vec<u8>> = routed
            .routes
            .iter()
            .map(|route| {
                let call = ExpertCall { expert: route.expert, rows: vec![route.row] };
                model.experts.compute(routed.layer, &[call], &routed.rows).unwrap()
            })
            .collect();
        let outputs: Vec<&[u8]> = outputs.iter().map(Vec::as_slice).collect();
        progress = model.executor.resume(&outputs).unwrap();
    }
}

fn after(state_row: usize, next: Segment) -> DraftSegment {
    DraftSegment { state_row, next }
}

fn difference(ours: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(ours.len(), golden.len());
    ours.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as u32
}

#[test]
fn guesses_are_those_of_a_naive_pass() {
    let mut model = tiny(KernelPath::Reference);
    for golden in golden() {
        let logits = model.pass(vec![segment(&golden.prompt, 0, &[0, 1, 2])]);
        assert_eq!(argmax(&logits.values), golden.next);
        let following = [&golden.prompt[1..], &[golden.next]].concat();
        let first = draft(&mut model, vec![after(0, segment(&following, 0, &[0, 1, 2]))]);
        assert!(difference(&first.values, &golden.first) < LOGIT_DIFFERENCE_MAX);
        assert_eq!(argmax(&first.values), golden.drafted);
        let position = following.len();
        let second =
            draft(&mut model, vec![after(0, segment(&[golden.drafted], position, &[0, 1, 2]))]);
        assert!(difference(&second.values, &golden.second) < LOGIT_DIFFERENCE_MAX);
    }
}

#[test]
fn guesses_depend_on_no_chunk_and_no_other_row() {
    for path in KernelPath::available() {
        let mut model = tiny(path);
        let [golden, other, _] = &golden()[..] else { panic!("three answers") };
        let (prompt, length) = (&golden.prompt, golden.prompt.len());
        let following = [&prompt[1..], &[golden.next]].concat();
        model.pass(vec![segment(prompt, 0, &[0, 1])]);
        let whole = draft(&mut model, vec![after(0, segment(&following, 0, &[0, 1]))]);

        // In two chunks, elsewhere in the cache, the second one behind another sequence's rows.
        model.pass(vec![segment(&prompt[..3], 0, &[4, 5])]);
        let chunk = Segment { logits: LogitsWanted::No, ..segment(&following[..3], 0, &[4, 5]) };
        assert!(draft(&mut model, vec![after(0, chunk)]).values.is_empty());
        let beside = other.prompt.len();
        model.pass(vec![segment(&other.prompt, 0, &[2, 3]), segment(&prompt[3..], 3, &[4, 5])]);
        let chunk = segment(&following[3..], 3, &[4, 5]);
        let last = Segment { logits: LogitsWanted::LastTokens(2), ..chunk };
        let guesses = draft(&mut model, vec![after(beside, last)]).values;
        assert_eq!(guesses.len(), 2 * whole.vocab_size, "{length}");
        assert_eq!(bits(&guesses[whole.vocab_size..]), bits(&whole.values), "{path}");
    }
}

#[test]
fn last_tokens_get_the_logits_that_each_would_get_alone() {
    for path in KernelPath::available() {
        let mut model = tiny(path);
        let prompt = &golden()[0].prompt;
        let last = Segment { logits: LogitsWanted::LastTokens(3), ..segment(prompt, 0, &[0, 1]) };
        let together = model.pass(vec![last]);
        let single: Vec<u32> = (prompt.len() - 2..=prompt.len())
            .flat_map(|end| bits(&model.pass(vec![segment(&prompt[..end], 0, &[2, 3])]).values))
            .collect();
        assert_eq!(bits(&together.values), single, "{path}");
    }
}

#[test]
fn a_draft_needs_states_and_a_layer() {
    let mut model = tiny(KernelPath::Portable);
    assert_eq!(model.executor.drafting(), Drafting::Present);
    model.pass(vec![segment(&[1, 2, 3], 0, &[0])]);
    let error = model.executor.begin_draft(vec![after(2, segment(&[3, 4], 2, &[0]))]).unwrap_err();
    assert!(
        matches!(error, ExecutorError::StateMissing { segment: 0, row: 2, state_count: 3 }),
        "{error}"
    );
    // Refused, and nothing is lost.
    assert_eq!(draft(&mut model, vec![after(2, segment(&[4], 2, &[0]))]).values.len(), 1024);

    let mut plain = Model::load(&fixture("v3"), KernelPath::Portable, 4);
    assert_eq!(plain.executor.drafting(), Drafting::Absent);
    let error = plain.executor.begin_draft(vec![after(0, segment(&[4], 0, &[0]))]).unwrap_err();
    assert!(matches!(error, ExecutorError::NoDraftLayer), "{error}");
}
