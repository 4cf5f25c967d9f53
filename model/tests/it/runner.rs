//! The executor's contract: what it refuses, and what it leaves behind.

use crate::oracle::{fixture, tiny_r1};
use crate::run::{Model, bits, segment};
use model::executor::{
    Batch, CacheShape, ExecutorError, ExpertAddress, ExpertCall, ExpertError, Experts, Progress,
};
use model::kernels::KernelPath;
use model::load::{LoadError, ModelLoader};

fn model() -> Model {
    Model::load(&fixture("v3"), KernelPath::Reference, 4)
}

fn begin_error(token_ids: &[u32], position: usize, blocks: &[u32]) -> String {
    let batch = Batch { segments: vec![segment(token_ids, position, blocks)] };
    model().executor.begin(batch).unwrap_err().to_string()
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    for (error, expected) in [
        (begin_error(&[5; 9], 0, &[0]), "segment 0 needs 2 cache blocks and brought 1"),
        (begin_error(&[5], 8, &[0]), "segment 0 needs 2 cache blocks and brought 1"),
        (begin_error(&[5], 0, &[4]), "block 4 is outside the cache of 4 blocks"),
        (begin_error(&[512], 0, &[0]), "token id 512 is outside the vocabulary of 512"),
        (begin_error(&[5], 32, &[0; 9]), "position 32 is past the context of 32 tokens"),
        (
            begin_error(&[5], usize::MAX, &[0]),
            "position 18446744073709551614 is past the context of 32 tokens",
        ),
        (begin_error(&[], 0, &[0]), "segment 0 has no tokens"),
    ] {
        assert_eq!(error, expected);
    }
}

#[test]
fn a_refused_resume_leaves_the_pass_paused() {
    let mut model = model();
    let expected = bits(&model.pass(vec![segment(&[5, 6], 0, &[0])]).values);

    let batch = Batch { segments: vec![segment(&[5, 6], 0, &[0])] };
    let Progress::Experts(routed) = model.executor.begin(batch.clone()).unwrap() else {
        panic!("layer 1 has experts")
    };
    assert_eq!((routed.layer, routed.row_count, routed.routes.len()), (1, 2, 2 * 4));
    assert!(matches!(model.executor.begin(batch), Err(ExecutorError::PassOpen)));
    assert!(matches!(
        model.executor.resume(&[]),
        Err(ExecutorError::OutputCount { given: 0, expected: 8 })
    ));
    let short = [0_u8; 4];
    assert!(matches!(
        model.executor.resume(&[&short[..]; 8]),
        Err(ExecutorError::OutputSize { index: 0, given: 4, expected: 512 })
    ));

    // Still open: overlap early, resume layer by layer, and the result is that of an undisturbed pass.
    let mut routed = routed;
    loop {
        model.executor.overlap();
        model.executor.overlap();
        let outputs: Vec<Vec<u8>> = routed
            .routes
            .iter()
            .map(|route| {
                let call = ExpertCall { expert: route.expert, rows: vec![route.row] };
                model.experts.compute(routed.layer, &[call], &routed.rows).unwrap()
            })
            .collect();
        let outputs: Vec<&[u8]> = outputs.iter().map(Vec::as_slice).collect();
        match model.executor.resume(&outputs).unwrap() {
            Progress::Experts(next) => routed = next,
            Progress::Finished(logits) => {
                assert_eq!(bits(&logits.values), expected);
                break;
            }
        }
    }
    assert!(matches!(model.executor.resume(&[]), Err(ExecutorError::NoPassOpen)));
}

#[test]
fn an_abandoned_pass_changes_nothing() {
    let mut model = model();
    let expected = bits(&model.pass(vec![segment(&[5, 6, 7], 0, &[0])]).values);
    model.executor.begin(Batch { segments: vec![segment(&[9, 9], 0, &[0])] }).unwrap();
    model.executor.abandon();
    assert_eq!(bits(&model.pass(vec![segment(&[5, 6, 7], 0, &[0])]).values), expected);
}

#[test]
fn an_empty_batch_finishes_at_once() {
    assert!(model().pass(Vec::new()).values.is_empty());
}

#[test]
fn expert_calls_that_cannot_be_answered_are_refused() {
    let model = model();
    let row = vec![0; 128 * 4];
    let call = |expert, row| [ExpertCall { expert, rows: vec![row] }];
    let compute = |layer, expert, index, rows: &[u8]| {
        model.experts.compute(layer, &call(expert, index), rows).unwrap_err()
    };
    assert_eq!(compute(0, 0, 0, &row), ExpertError::NotResident { layer: 0, expert: 0 });
    assert_eq!(compute(1, 16, 0, &row), ExpertError::NotResident { layer: 1, expert: 16 });
    assert_eq!(compute(1, 0, 1, &row), ExpertError::RowOutOfRange { row: 1, row_count: 1 });
    assert_eq!(
        compute(1, 0, 0, &row[1..]),
        ExpertError::PayloadSize { given: 511, row_bytes: 512 }
    );
}

#[test]
fn impossible_caches_and_experts_are_named() {
    let loader = ModelLoader::open(&tiny_r1(), KernelPath::Reference).unwrap();
    for (block_tokens, block_count) in [(0, 4), (4, 0), (usize::MAX, 2), (1 << 40, 1 << 31)] {
        let shape = CacheShape { block_tokens, block_count };
        let error = loader.load_executor(shape, 16, &mut |_| {}).err().unwrap();
        assert!(matches!(error, LoadError::CacheShape { .. }), "{error}");
    }
    let shape = CacheShape { block_tokens: 4, block_count: 4 };
    let error = loader.load_executor(shape, 513, &mut |_| {}).err().unwrap();
    assert_eq!(
        error.to_string(),
        "a context of 513 tokens is longer than the model's 512: ask for at most 512"
    );
    for (layer, expert) in [(0, 0), (1, 16), (6, 0), (99, 0)] {
        let wanted = [ExpertAddress { layer, expert }].into();
        let error = loader.load_experts(None, &wanted, &mut |_| {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the model has no routed expert {expert} in layer {layer}")
        );
    }
}

#[test]
fn a_missing_tensor_is_reported_on_opening() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("v3").join("model.safetensors"), folder.path().join("model.safetensors"))
        .unwrap();
    let config = std::fs::read_to_string(fixture("v3").join("config.json")).unwrap();
    let config = config.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5");
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let error = ModelLoader::open(folder.path(), KernelPath::Reference).unwrap_err();
    let LoadError::Checkpoint(error) = error else { panic!("{error}") };
    let message = error.to_string();
    assert!(message.contains("model.layers.4.input_layernorm.weight"), "{message}");
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn kernel_paths_have_names() {
    for path in KernelPath::available() {
        assert_eq!(path.to_string().parse::<KernelPath>(), Ok(path));
    }
    let error = "AVX".parse::<KernelPath>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"AVX\" is no kernel path: write reference, portable, avx2, avx512 or avx512bf16"
    );
}
