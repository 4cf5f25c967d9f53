//! A fetch that is killed in the middle, and a source that an environment describes: as a process of its own.

use crate::cluster::{Cluster, TestAgent, model_directory, probe_value};
use crate::hub_server::{Hub, REPOSITORY};
use crate::s3_server;
use proto::v1::{Assignment, ModelSource};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const WEIGHTS: &str = "model.safetensors";

async fn spawn(state: &Path, environment: &[(&str, &str)]) -> (Child, TestAgent) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_boyle-agent"))
        .args(["--agent-id", "agent-0", "--state-directory"])
        .arg(state)
        .envs(environment.iter().copied())
        .env("BOYLE_LOG", "warn")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let agent = TestAgent::remote("agent-0", line.strip_prefix("listening on ").unwrap());
    (child, agent)
}

fn from_source(cluster: &Cluster, uri: &str) -> Assignment {
    let model = ModelSource { uri: uri.into(), ..ModelSource::default() };
    Assignment { model: Some(model), ..cluster.assignment(&cluster.agents[0], 1) }
}

/// The journal of the weights, wherever its folder is.
fn journal(state: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(state.join("models")).ok()?;
    let folder = folders.filter_map(Result::ok).map(|it| it.path()).find(|it| it.is_dir())?;
    Some(folder.join("journal").join(WEIGHTS))
}

/// Bytes that the journal says are there: records of start, end and check.
fn recorded(state: &Path) -> u64 {
    let content = journal(state).and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let word =
        |record: &[u8], n: usize| u64::from_le_bytes(record[n * 8..n * 8 + 8].try_into().unwrap());
    content.chunks_exact(24).map(|record| word(record, 1) - word(record, 0)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_fetch_goes_on_where_it_was() {
    let hub = Hub::start(&model_directory(), None).await;
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("agent-0");
    let uri = format!("hf://{REPOSITORY}");
    let environment =
        [("BOYLE_MODEL_SOURCE", uri.as_str()), ("BOYLE_MODEL_ENDPOINT", hub.endpoint.as_str())];
    let (mut child, agent) = spawn(&directory, &environment).await;
    let cluster = Cluster { agents: vec![agent], copies: 1, state };
    let agent = &cluster.agents[0];
    agent.status_when(|status| status.model.is_some()).await;
    let length = hub.length(WEIGHTS);
    hub.gate.send_replace(length / 2);
    agent.assign(from_source(&cluster, &uri)).await.unwrap();
    // The source stands still half way; what came is written down soon.
    let saved = async {
        while recorded(&directory) < length / 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), saved).await.expect("nothing is written down");
    child.kill().await.unwrap();
    let (had, served) = (recorded(&directory), hub.served());
    hub.gate.send_replace(u64::MAX);

    let (_child, agent) = spawn(&directory, &environment).await;
    agent.ready(1).await;
    let again = hub.served() - served;
    // A buffer may be lost on its way to the disk, and gaps between tensors come along.
    assert!(again <= length - had + 300_000, "{again} bytes although {had} of {length} were there");
    assert!(again >= length / 4, "the rest came now: {again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_from_a_bucket() {
    let endpoint = s3_server::start(&model_directory(), "models", "deep/tiny").await;
    let state = tempfile::tempdir().unwrap();
    let uri = "s3://models/deep/tiny";
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = http.to_string();
    let environment = [
        ("BOYLE_MODEL_SOURCE", uri),
        ("BOYLE_MODEL_ENDPOINT", endpoint.as_str()),
        ("BOYLE_HTTP_LISTEN", http.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let (_child, mut agent) = spawn(&state.path().join("agent-0"), &environment).await;
    agent.http_address = http.clone();
    let cluster = Cluster { agents: vec![agent], copies: 1, state };
    let agent = &cluster.agents[0];
    let facts = agent.status_when(|status| status.model.is_some()).await.model.unwrap();
    agent.assign(from_source(&cluster, uri)).await.unwrap();
    agent.ready(1).await;
    let plain = Cluster::ready(1, 1).await;
    let same = plain.agents[0].status().await.model.unwrap();
    assert_eq!(facts.fingerprint, same.fingerprint, "the same files from another place");
    assert!(!facts.revision.is_empty());
    let metrics = agent.probe("/metrics").await.1;
    let fetched = probe_value(&metrics, "boyle_agent_fetched_bytes_total{from=\"source\"}");
    assert!(fetched > 8e6 && fetched < 1.3e7, "{fetched} bytes");

    let wrong = environment.map(|(name, value)| match name {
        "AWS_ACCESS_KEY_ID" => (name, "stranger"),
        "BOYLE_HTTP_LISTEN" => (name, "127.0.0.1:0"),
        _ => (name, value),
    });
    let (_child, agent) = spawn(&cluster.state.path().join("stranger"), &wrong).await;
    let status = agent.status_after_all(|status| !status.error.is_empty()).await;
    assert!(status.error.contains("AWS_SECRET_ACCESS_KEY"), "{}", status.error);
}
