//! `boyle up` with real children, from start to stop.

use crate::processes::{WAIT_MAX, boyle, signal, until, writing_below};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running `boyle up` on a port of its own.
struct Up {
    root: TempDir,
    process: Child,
    url: String,
}

impl Up {
    async fn start(arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let all = [&["up", "--port", "0", "--json"], arguments].concat();
        let mut process = Command::from(boyle(root.path(), &all))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(WAIT_MAX, lines.next_line()).await.unwrap().unwrap();
        let said: Value = serde_json::from_str(&line.expect("it says where it is")).unwrap();
        let url = said["url"].as_str().unwrap().to_owned();
        Self { root, process, url }
    }

    fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    async fn ask(&self, question: &str) -> String {
        let body = json!({
            "model": "tiny-r1",
            "temperature": 0,
            "messages": [{"role": "user", "content": question}],
        });
        let url = format!("{}/v1/chat/completions", self.url);
        // It fails only when another test has done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let content = answer["choices"][0]["message"]["content"].as_str();
        content.unwrap_or_else(|| panic!("{answer}")).trim().to_owned()
    }
}

fn status(root: &Path) -> Option<Value> {
    let output = boyle(root, &["status", "--json"]).output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn pids(status: &Value) -> BTreeMap<String, u64> {
    let agents = status["agentDetails"].as_array().unwrap().iter();
    agents
        .filter_map(|agent| {
            let pid = agent["instance"]["process"]["pid"].as_u64()?;
            Some((agent["agent"].as_str()?.to_owned(), pid))
        })
        .collect()
}

#[tokio::test]
async fn a_deployment_lives_heals_and_ends() {
    let mut up = Up::start(&["--agents", "3", "--copies", "2"]).await;
    assert_eq!(up.ask("How many r's are in strawberry?").await, "r appears 3 times in strawberry.");
    let before = status(up.root.path()).unwrap();
    assert_eq!(before["phase"], "Available");
    assert_eq!(
        before["experts"],
        json!({"placed": 80, "missing": 0, "copies": 2, "copiesPlanned": 2})
    );
    let agents = pids(&before);
    assert_eq!(agents.len(), 3);

    let victim = agents["agent-1"];
    signal(u32::try_from(victim).unwrap(), "KILL");
    let healed = until("agent-1 is replaced and full copies are back", || {
        let now = status(up.root.path())?;
        let replaced = *pids(&now).get("agent-1")? != victim;
        (replaced && now["phase"] == "Available" && now["experts"]["copies"] == 2).then_some(now)
    })
    .await;
    assert_eq!(pids(&healed)["agent-0"], agents["agent-0"], "the others were left alone");
    let generation = |status: &Value| status["plan"]["generation"].as_u64().unwrap();
    assert!(generation(&healed) > generation(&before));
    assert_eq!(up.ask("3 + 4 = ?").await, "3 + 4 = 7");

    let text = boyle(up.root.path(), &["status"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("agent-1: ready, pid ") && text.contains("    layer 4: "), "{text}");

    let second = boyle(up.root.path(), &["up", "--port", "0"]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    let port = up.url.rsplit(':').next().unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&up.pid().to_string()) && said.contains(port), "{said}");

    let asked = boyle(up.root.path(), &["chat", "3 + 4 = ?"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "3 + 4 = 7\n");

    signal(up.pid(), "TERM");
    let ended = tokio::time::timeout(WAIT_MAX, up.process.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    assert_eq!(writing_below(up.root.path()), [0; 0], "nothing is left");
    assert_eq!(status(up.root.path()), None);
}

#[tokio::test]
async fn killing_the_parent_leaves_nothing_behind() {
    let mut up = Up::start(&["--agents", "2", "--copies", "1"]).await;
    assert_eq!(writing_below(up.root.path()).len(), 3, "two agents and a router");
    signal(up.pid(), "KILL");
    up.process.wait().await.unwrap();
    until("the children are gone", || writing_below(up.root.path()).is_empty().then_some(())).await;
    // The lock died with its holder.
    assert_eq!(status(up.root.path()), None);
}

#[tokio::test]
async fn an_unusable_model_ends_the_start_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let models = cli::state::StateRoot::resolve(Some(root.path())).unwrap().models();
    let good = cli::embedded::MODELS[0].unpack(&models).unwrap();
    let bad = root.path().join("bad");
    std::fs::create_dir(&bad).unwrap();
    for file in &cli::embedded::FILES {
        std::fs::copy(good.join(file.name), bad.join(file.name)).unwrap();
    }
    std::fs::write(bad.join("tokenizer.json"), b"{\"version\": 1").unwrap();
    let manifest = root.path().join("m.yaml");
    let text = format!(
        "apiVersion: boyle.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: m}}\n\
         spec: {{model: {{source: 'file://{}'}}}}\n",
        bad.display()
    );
    std::fs::write(&manifest, text).unwrap();
    let manifest = manifest.display().to_string();
    let mut command = Command::from(boyle(root.path(), &["up", &manifest, "--port", "0"]));
    let output = tokio::time::timeout(WAIT_MAX, command.kill_on_drop(true).output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("tokenizer.json") && said.contains("cannot be served"), "{said}");
    assert_eq!(writing_below(root.path()), [0; 0]);
}

#[tokio::test]
async fn chat_starts_what_it_needs_and_stops_it() {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::from(boyle(root.path(), &["chat", "3 + 4 = ?"]));
    let output = tokio::time::timeout(WAIT_MAX, command.kill_on_drop(true).output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3 + 4 = 7\n", "{said}");
    assert!(said.contains("starting tiny-r1"), "{said}");
    assert_eq!(writing_below(root.path()), [0; 0]);
}
