//! Commands that end by themselves: what they say and how they exit.

use crate::processes::boyle;
use std::net::TcpListener;
use std::path::Path;

/// Exit status, standard output, standard error.
fn ended(root: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = boyle(root, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn check(arguments: &[&str], status: i32, said: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let (code, out, err) = ended(root.path(), arguments);
    let all = format!("{out}{err}");
    assert_eq!(code, Some(status), "{arguments:?} said {all}");
    for part in said {
        assert!(all.contains(part), "{arguments:?}: no {part:?} in {all}");
    }
}

fn manifest(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deployment.yaml");
    let head = "apiVersion: boyle.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: m}\n";
    std::fs::write(&file, format!("{head}spec: {text}\n")).unwrap();
    (folder, file.display().to_string())
}

#[test]
fn help_suffices() {
    check(&["--help"], 0, &["boyle chat", "boyle up", "boyle status", "oracle", "bench"]);
    check(
        &["up", "--help"],
        0,
        &["--agents", "--copies", "--port", "kind: ModelDeployment", "130"],
    );
}

#[test]
fn wrong_command_lines_name_the_argument() {
    check(&["up", "--agents", "0"], 2, &["--agents", "0"]);
    check(&["up", "--port", "70000"], 2, &["--port", "70000"]);
    check(&["plan", "--agent-memory", "2 parsecs"], 2, &["parsecs", "2GiB"]);
    check(&["plan", "--kernel-path", "abacus"], 1, &["abacus", "avx2", "auto"]);
    check(&["oracle", "x", "--kernel-path", "abacus"], 1, &["abacus", "avx2"]);
}

#[test]
fn status_says_what_to_do_when_nothing_runs() {
    check(&["status"], 1, &["Nothing runs", "boyle up", "boyle chat"]);
    check(&["status", "--json"], 1, &["Nothing runs"]);
}

#[test]
fn a_taken_port_is_noticed_before_anything_is_loaded() {
    let root = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, out, err) = ended(root.path(), &["up", "--port", &port]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains(&port) && err.contains("--port"), "{err}");
    assert!(!root.path().join("models").exists(), "nothing was unpacked");
}

#[test]
fn sources_that_are_not_here_yet_say_so() {
    let (_folder, file) = manifest("{model: {source: 'hf://deepseek-ai/DeepSeek-R1'}}");
    check(&["plan", &file], 1, &["hf://deepseek-ai/DeepSeek-R1", "not yet", "file://"]);
    let (_folder, file) = manifest("{model: {source: 'embedded://big'}}");
    check(&["up", &file, "--port", "0"], 1, &["embedded://big", "embedded://tiny-r1"]);
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let (_folder, file) = manifest("{model: {source: 'file:///no/such/model'}}");
    check(&["up", &file, "--port", "0"], 1, &["/no/such/model", "config.json"]);
    check(&["up", "/no/such/file.yaml"], 1, &["/no/such/file.yaml"]);
}

#[test]
fn a_model_that_does_not_fit_comes_with_the_arithmetic() {
    let tight = ["up", "--port", "0", "--agents", "2", "--agent-memory", "5MiB"];
    check(&tight, 1, &["does not fit", "agent-0", "dense weights", "memory"]);
}

#[test]
fn a_plan_is_shown_without_starting_anything() {
    let said = ["agent-0", "agent-3", "layer 1", "KV cache"];
    check(&["plan", "--agents", "4", "--copies", "2"], 0, &said);
}

#[test]
fn a_checkpoint_without_answers_fails_the_oracle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    check(&["oracle", &path, "--kernel-path", "portable"], 1, &["FAIL", &path, "config.json"]);
}

#[test]
fn a_fixture_passes_the_oracle() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/fixtures/v3-fp8");
    check(&["oracle", fixture, "--kernel-path", "reference"], 0, &["PASS", "cosine", "96/96"]);
}

#[test]
fn an_unreachable_url_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    check(&["chat", "--url", &url, "hello"], 1, &[&url, "cannot be reached"]);
}
