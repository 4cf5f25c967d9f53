//! `boyle bench` on the embedded model. No times are checked, only that there are some.

use crate::processes::boyle;
use serde_json::Value;
use std::path::Path;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-r1");

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let output = boyle(Path::new("/nowhere"), arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], said: &[&str]) {
    let output = boyle(Path::new("/nowhere"), arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
    for part in said {
        assert!(errors.contains(part), "{arguments:?}: no {part:?} in {errors}");
    }
}

#[test]
fn every_kind_of_cell_has_a_rate_and_a_limit() {
    let cells = ["prefill_64", "decode_b1", "decode_b4", "decode_b1_ctx256"];
    let report =
        json(&["bench", "engine", MODEL, "--json", "--threads", "1", "--cells", &cells.join(",")]);
    let found: Vec<&String> = report["cells"].as_object().unwrap().keys().collect();
    assert_eq!(found.len(), cells.len(), "{found:?}");
    for name in cells {
        let cell = &report["cells"][name];
        for field in
            ["tokens_per_second", "limit", "fraction_of_limit", "bytes_per_step", "flop_per_step"]
        {
            assert!(cell[field].as_f64().unwrap() > 0.0, "{name} {field}: {cell}");
        }
        assert!(["memory", "compute"].contains(&cell["bound"].as_str().unwrap()), "{cell}");
    }
    assert!(report["limits"]["read_bytes_per_second"].as_f64().unwrap() > 0.0);
    assert!(report["limits"]["f32_flop_per_second"].as_f64().unwrap() > 0.0);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(report["cells"]["decode_b1_ctx256"]["prefill_tokens_per_second"].is_number());
}

#[test]
fn loading_is_timed_beside_reading() {
    let report = json(&["bench", "load", MODEL, "--json"]);
    let size = std::fs::metadata(Path::new(MODEL).join("model.safetensors")).unwrap().len();
    assert_eq!(report["file_bytes"], size);
    assert!(report["memory_bytes"].as_u64().unwrap() > 0);
    assert!(report["warm"]["load_bytes_per_second"].as_f64().unwrap() > 0.0);
    assert!(report["warm"]["read_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_cannot_be_measured_is_named() {
    refused(&["bench", "engine", "/no/such/model"], &["/no/such/model", "config.json"]);
    refused(&["bench", "load", "/no/such/model"], &["/no/such/model", "config.json"]);
    refused(&["bench", "engine", MODEL, "--cells", "decode"], &["\"decode\"", "decode_bN"]);
    let long = ["bench", "engine", MODEL, "--cells", "decode_b1_ctx1024"];
    refused(&long, &["decode_b1_ctx1024", "1024", "512", "--cells"]);
    refused(&["bench", "engine", MODEL, "--kernel", "abacus"], &["abacus", "avx2"]);
    let empty = tempfile::tempdir().unwrap();
    refused(&["bench", "engine", &empty.path().display().to_string()], &["config.json"]);
}
