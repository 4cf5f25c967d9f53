use std::path::Path;

use model::checkpoint::{Checkpoint, CheckpointError, HEADER_BYTES_MAX};
use model::config::StoredFormat;
use serde_json::json;
use tempfile::TempDir;

use super::file::{Written, encode, raw, write, write_index};
use crate::config::fixture;

const BLOCKS: StoredFormat = StoredFormat::Fp8Blocks { rows: 2, columns: 2 };

/// Asserts that the error's message holds all of `parts`.
#[track_caller]
fn says<T>(result: Result<T, CheckpointError>, parts: &[&str]) {
    let Err(error) = result else { panic!("not refused; expected {parts:?}") };
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        message = format!("{message}: {source}");
    }
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn folder_with(file: &str, bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(file), bytes).unwrap();
    folder
}

fn open(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(folder_with("model.safetensors", bytes).path())
}

fn fp8_tensors(scales: &[f32]) -> Vec<Written> {
    vec![
        Written::new("w", "F8_E4M3", &[2, 3], &[0x38; 6]),
        Written::f32("w_scale_inv", &[1, 2], scales),
    ]
}

fn open_fp8(tensors: &[Written]) -> (TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), tensors);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    (folder, checkpoint)
}

/// Cut anywhere, the fixture is refused; the message names the file, and the tensor that is cut.
#[test]
fn truncated_fixture() {
    let bytes = std::fs::read(fixture("v3").join("model.safetensors")).unwrap();
    says(
        open(&bytes[..bytes.len() - 1]),
        &["model.safetensors", "tensor model.norm.weight", "truncated"],
    );
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    says(open(&bytes[..header]), &["model.safetensors", "tensor ", "truncated"]);
    says(open(&bytes[..header - 1]), &["model.safetensors", "header", "truncated"]);
    for length in [0, 7] {
        says(open(&bytes[..length]), &["model.safetensors", "truncated"]);
    }
    says(
        open(&[&bytes[..], b"x"].concat()),
        &["model.safetensors", "1 bytes after its last tensor"],
    );
}

#[test]
fn headers() {
    let length = (HEADER_BYTES_MAX + 1).to_le_bytes();
    says(
        open(&length),
        &["header", &(HEADER_BYTES_MAX + 1).to_string(), &HEADER_BYTES_MAX.to_string()],
    );
    says(open(&u64::MAX.to_le_bytes()), &["header", "damaged"]);
    says(open(&raw("{", &[])), &["model.safetensors", "not safetensors JSON"]);
    says(open(&raw("[]", &[])), &["model.safetensors", "not safetensors JSON"]);
    let entry =
        |begin, end| json!({"dtype": "U8", "shape": [4], "data_offsets": [begin, end]}).to_string();
    let header = |a: String, b: String| format!(r#"{{"a": {a}, "b": {b}}}"#);
    let twice = format!(r#"{{"a": {}, "a": {}}}"#, entry(0, 4), entry(4, 8));
    says(open(&raw(&twice, &[0; 8])), &["tensor a", "named twice"]);
    says(open(&raw(&header(entry(0, 4), entry(2, 6)), &[0; 8])), &["tensor b", "inside tensor a"]);
    says(
        open(&raw(&header(entry(0, 4), entry(5, 9)), &[0; 9])),
        &["tensor b", "hole after byte 4"],
    );
    says(
        open(&raw(&header(entry(0, 4), entry(4, 9)), &[0; 9])),
        &["tensor b", "4..9", "[4]", "U8"],
    );
    says(open(&raw(&header(entry(0, 4), entry(4, 0)), &[0; 4])), &["tensor b", "4..0"]);
    let unknown = r#"{"a": {"dtype": "Q4", "shape": [4], "data_offsets": [0, 4]}}"#;
    says(open(&raw(unknown, &[0; 4])), &["tensor a", "Q4"]);
    let huge = format!(
        r#"{{"a": {{"dtype": "F32", "shape": [{0}, {0}], "data_offsets": [0, 4]}}}}"#,
        u64::MAX
    );
    says(open(&raw(&huge, &[0; 4])), &["tensor a", "do not fit shape"]);
    let deep = r#"{"a": {"dtype": "U8", "shape": [1,1,1,1,1,1,1,1,4], "data_offsets": [0, 4]}}"#;
    says(open(&raw(deep, &[0; 4])), &["tensor a", "9 dimensions"]);
}

#[test]
fn tensors_that_are_not_what_the_model_needs() {
    let checkpoint = Checkpoint::open(&fixture("v3")).unwrap();
    let name = "model.norm.weight";
    says(
        checkpoint.tensor("model.norm.bias", &[128], StoredFormat::Plain),
        &["model.safetensors", "model.norm.bias", "missing"],
    );
    says(
        checkpoint.tensor(name, &[64], StoredFormat::Plain),
        &["model.safetensors", name, "[128]", "[64]"],
    );
    says(checkpoint.tensor(name, &[128, 1], StoredFormat::Plain), &[name, "[128, 1]"]);
    says(checkpoint.tensor(name, &[128], BLOCKS), &["model.safetensors", name, "BF16", "F8_E4M3"]);
    let (_folder, checkpoint) = open_fp8(&fp8_tensors(&[1.0, 1.0]));
    says(
        checkpoint.tensor("w", &[2, 3], StoredFormat::Plain),
        &["model.safetensors", "tensor w", "F8_E4M3", "BF16"],
    );
}

#[test]
fn scales() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
        let (_folder, checkpoint) = open_fp8(&fp8_tensors(&[1.0, value]));
        let parts = ["model.safetensors", "tensor w_scale_inv", "block [0, 1]", &value.to_string()];
        says(checkpoint.tensor("w", &[2, 3], BLOCKS), &parts);
    }
    let (_folder, checkpoint) = open_fp8(&fp8_tensors(&[1.0, 0.0])[..1]);
    says(checkpoint.tensor("w", &[2, 3], BLOCKS), &["model.safetensors", "w_scale_inv", "missing"]);
    let (_folder, checkpoint) = open_fp8(&fp8_tensors(&[1.0, 2.0]));
    let other = StoredFormat::Fp8Blocks { rows: 1, columns: 2 };
    says(checkpoint.tensor("w", &[2, 3], other), &["w_scale_inv", "[1, 2]", "[2, 2]"]);
    let zero = StoredFormat::Fp8Blocks { rows: 0, columns: 2 };
    says(checkpoint.tensor("w", &[2, 3], zero), &["tensor w", "0 × 2"]);
    let mut tensors = fp8_tensors(&[1.0, 2.0]);
    tensors[1] = Written::new("w_scale_inv", "BF16", &[1, 2], &[0; 4]);
    let (_folder, checkpoint) = open_fp8(&tensors);
    says(checkpoint.tensor("w", &[2, 3], BLOCKS), &["w_scale_inv", "BF16", "F32"]);
    let flat = [Written::new("v", "F8_E4M3", &[4], &[0; 4])];
    let (_folder, checkpoint) = open_fp8(&flat);
    says(checkpoint.tensor("v", &[4], BLOCKS), &["tensor v", "[4]", "2 × 2"]);
}

/// By the headers alone: as `tensor`, but for the scales' values.
#[test]
fn check_reads_no_data() {
    let (_folder, checkpoint) = open_fp8(&fp8_tensors(&[1.0, f32::NAN]));
    checkpoint.check("w", &[2, 3], BLOCKS).unwrap();
    says(checkpoint.tensor("w", &[2, 3], BLOCKS), &["w_scale_inv", "NaN"]);
    says(checkpoint.check("w", &[3, 2], BLOCKS), &["tensor w", "[3, 2]"]);
    says(checkpoint.check("w", &[2, 3], StoredFormat::Plain), &["tensor w", "F8_E4M3"]);
    let (_folder, checkpoint) = open_fp8(&fp8_tensors(&[1.0, 1.0])[..1]);
    says(checkpoint.check("w", &[2, 3], BLOCKS), &["w_scale_inv", "missing"]);
}

#[test]
fn folders_without_safetensors() {
    let empty = tempfile::tempdir().unwrap();
    says(
        Checkpoint::open(empty.path()),
        &["neither model.safetensors nor model.safetensors.index.json"],
    );
    says(Checkpoint::open(Path::new("/does/not/exist")), &["/does/not/exist"]);
    for file in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let folder = folder_with(file, b"x");
        says(Checkpoint::open(folder.path()), &["pickle", file, "convert it to safetensors"]);
    }
}

#[test]
fn indexes() {
    let index = "model.safetensors.index.json";
    says(Checkpoint::open(folder_with(index, b"{}").path()), &[index, "weight_map"]);
    says(Checkpoint::open(folder_with(index, b"{").path()), &[index, "not a safetensors index"]);
    let twice = br#"{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}"#;
    says(Checkpoint::open(folder_with(index, twice).path()), &[index, "tensor a", "named twice"]);
    let outside = [
        "../x.safetensors",
        "/x.safetensors",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "..",
        "",
        ".safetensors",
        "x.bin",
    ];
    for shard in outside {
        let folder = tempfile::tempdir().unwrap();
        write_index(folder.path(), &json!({"a": shard}));
        says(
            Checkpoint::open(folder.path()),
            &[index, "tensor a", &format!("{shard:?}"), "same folder"],
        );
    }
}

#[test]
fn shards() {
    let index = "model.safetensors.index.json";
    let folder = tempfile::tempdir().unwrap();
    write_index(folder.path(), &json!({"a": "1.safetensors", "b": "2.safetensors"}));
    std::fs::write(folder.path().join("1.safetensors"), encode(&[Written::f32("a", &[1], &[1.0])]))
        .unwrap();
    says(Checkpoint::open(folder.path()), &[index, "tensor b", "2.safetensors is missing"]);
    std::fs::write(folder.path().join("2.safetensors"), encode(&[Written::f32("c", &[1], &[1.0])]))
        .unwrap();
    says(Checkpoint::open(folder.path()), &[index, "tensor b", "2.safetensors does not hold it"]);
    let whole = encode(&[Written::f32("b", &[1], &[1.0])]);
    std::fs::write(folder.path().join("2.safetensors"), &whole[..whole.len() - 2]).unwrap();
    says(Checkpoint::open(folder.path()), &["2.safetensors", "tensor b", "truncated"]);
    std::fs::write(folder.path().join("2.safetensors"), &whole).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    says(checkpoint.tensor("c", &[1], StoredFormat::Plain), &["tensor c", "missing"]);
    says(checkpoint.tensor("b", &[2], StoredFormat::Plain), &["2.safetensors", "tensor b"]);
}
