//! Models that are fetched: what goes over the wire, what a broken fetch costs, and what people are told.

use crate::cluster::{
    Answer, Cluster, TestAgent, copy_model, model_directory, probe_value, questions,
};
use crate::hub_server::{COMMIT, Hub, REPOSITORY, Trouble};
use bytes::Bytes;
use node_agent::{AgentConfig, ModelArguments};
use proto::v1::{AgentPhase, Assignment, ModelSource};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::Code;

const WEIGHTS: &str = "model.safetensors";
/// Bytes that nobody asked for and that come all the same: between ranges, and first reads of headers.
const SLACK: u64 = 300_000;

fn uri() -> String {
    format!("hf://{REPOSITORY}")
}

fn from_hub(hub: &Hub, token: Option<&str>, state: &Path, id: &str) -> AgentConfig {
    let model = ModelArguments {
        source: Some(uri()),
        revision: Some("main".into()),
        endpoint: Some(hub.endpoint.clone()),
        hub_token: token.map(|token| token.parse().unwrap()),
        ..ModelArguments::default()
    };
    AgentConfig { model, ..AgentConfig::new(id, state.join(id)) }
}

/// A hub with the embedded model, and agents without an assignment.
async fn cluster(count: usize, copies: usize) -> (Arc<Hub>, Cluster) {
    let hub = Hub::start(&model_directory(), None).await;
    let state = tempfile::tempdir().unwrap();
    let start =
        |n| TestAgent::start_with(from_hub(&hub, None, state.path(), &format!("agent-{n}")));
    let agents = (0..count).map(start).collect();
    (hub, Cluster { agents, copies, state })
}

fn assignment(cluster: &Cluster, agent: &TestAgent, generation: u64) -> Assignment {
    let model = ModelSource { uri: uri(), revision: "main".into(), ..ModelSource::default() };
    Assignment { model: Some(model), ..cluster.assignment(agent, generation) }
}

async fn expected(question: &str) -> Answer {
    Cluster::ready(1, 1).await.agents[0].ask(question).await
}

async fn failed(agent: &TestAgent, text: &str) -> String {
    let wanted = |status: &proto::v1::AgentStatus| {
        status.phase() == AgentPhase::Failed && status.error.contains(text)
    };
    agent.status_after_all(wanted).await.error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_from_a_hub_and_the_token_stays_there() {
    let hub = Hub::start(&model_directory(), Some("hf_secret")).await;
    let state = tempfile::tempdir().unwrap();
    let config = from_hub(&hub, Some("hf_secret"), state.path(), "agent-0");
    assert!(!format!("{config:?}").contains("hf_secret"), "tokens are not printed");
    let agents = vec![TestAgent::start_with(config)];
    let cluster = Cluster { agents, copies: 1, state };
    let agent = &cluster.agents[0];
    let status = agent.status_when(|status| status.model.is_some()).await;
    let facts = status.model.unwrap();
    assert_eq!(facts.revision, COMMIT);
    assert!(hub.served() < hub.length(WEIGHTS) / 4, "facts cost {} bytes", hub.served());

    let plain = Cluster::ready(1, 1).await;
    let same = plain.agents[0].status().await.model.unwrap();
    assert_eq!(same.fingerprint, facts.fingerprint, "the same files from another place");

    agent.assign(assignment(&cluster, agent, 1)).await.unwrap();
    agent.ready(1).await;
    let question = &questions(1)[0];
    assert_eq!(agent.ask(question).await, plain.agents[0].ask(question).await);
    let fetch = agent.status().await.fetch.unwrap();
    assert!(fetch.bytes_total > 0 && fetch.bytes_loaded == fetch.bytes_total, "{fetch:?}");
    assert_eq!(hub.tokens_at_cdn.load(Ordering::SeqCst), 0);
    assert!(hub.served() <= hub.length(WEIGHTS) + SLACK, "{}", hub.served());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_needed_tensors_are_fetched_and_later_ones_from_peers() {
    let question = &questions(1)[0];
    let expected = expected(question).await;
    let (hub, mut cluster) = cluster(2, 1).await;
    for agent in &cluster.agents {
        agent.assign(assignment(&cluster, agent, 1)).await.unwrap();
    }
    let mut needed = 0;
    for agent in &cluster.agents {
        agent.ready(1).await;
        needed += agent.status().await.fetch.unwrap().bytes_total;
    }
    assert_eq!(cluster.agents[0].ask(question).await, expected);
    // Samples for the fingerprint are needed besides: at most 4 KiB of each tensor that is not its own.
    let served = hub.served();
    let (length, samples) = (hub.length(WEIGHTS), 2 * 128 * 4096);
    assert!(needed < 2 * length * 3 / 4, "{needed} of two times {length}");
    assert!(served >= needed && served < needed + samples + 2 * SLACK, "{served} for {needed}");

    // Every expert changes its place: each agent has what the other one needs.
    cluster.agents.reverse();
    for agent in &cluster.agents {
        agent.assign(assignment(&cluster, agent, 2)).await.unwrap();
    }
    for agent in &cluster.agents {
        agent.ready(2).await;
        let metrics = agent.probe("/metrics").await.1;
        let from_peers = probe_value(&metrics, "boyle_agent_fetched_bytes_total{from=\"peer\"}");
        assert!(from_peers > length as f64 / 4.0, "{from_peers} bytes from peers");
    }
    assert_eq!(hub.served(), served, "the source gave nothing more");
    assert_eq!(cluster.agents[0].ask(question).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_peer_gives_comes_from_the_source() {
    let question = &questions(1)[0];
    let expected = expected(question).await;
    let (hub, mut cluster) = cluster(2, 1).await;
    let first = &cluster.agents[0];
    let mut half = assignment(&cluster, first, 1);
    // The other agent never answers; half of the experts are its.
    half.peers[1].address = "127.0.0.1:1".into();
    first.assign(half).await.unwrap();
    first.status_when(|status| !status.resident.is_empty()).await;
    let served = hub.served();
    cluster.agents.truncate(1);
    let alone = assignment(&cluster, &cluster.agents[0], 2);
    cluster.agents[0].assign(alone).await.unwrap();
    cluster.agents[0].ready(2).await;
    assert!(hub.served() > served, "more came from the source");
    assert!(hub.served() <= hub.length(WEIGHTS) * 5 / 4 + SLACK, "and nothing twice");
    assert_eq!(cluster.agents[0].ask(question).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_troubled_source_is_asked_again_from_where_it_broke() {
    let (hub, cluster) = cluster(1, 1).await;
    let agent = &cluster.agents[0];
    agent.status_when(|status| status.model.is_some()).await;
    let cuts = [100_000, 50_000, 1].map(Trouble::Cut);
    hub.troubles.lock().unwrap().extend([Trouble::Status(429), Trouble::Status(500)]);
    hub.troubles.lock().unwrap().extend(cuts);
    agent.assign(assignment(&cluster, agent, 1)).await.unwrap();
    agent.ready(1).await;
    assert!(hub.troubles.lock().unwrap().is_empty(), "all of it happened");
    let served = hub.served();
    assert!(served <= hub.length(WEIGHTS) + SLACK, "{served} bytes: nothing twice");
    let metrics = agent.probe("/metrics").await.1;
    assert!(probe_value(&metrics, "boyle_agent_fetch_retries_total") >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do_and_the_agent_stays() {
    let hub = Hub::start(&model_directory(), Some("right")).await;
    let state = tempfile::tempdir().unwrap();
    type Change = fn(&mut AgentConfig);
    let table: [(Option<&str>, Change, &str); 5] = [
        (None, |_| {}, "HF_TOKEN"),
        (Some("wrong"), |_| {}, "accept the model's terms"),
        (Some("right"), |it| it.model.source = Some("hf://boyle/none".into()), "spec.model.source"),
        (Some("right"), |it| it.model.revision = Some("v9".into()), "no revision \"v9\""),
        (Some("right"), |it| it.space = |_| Ok(1000), "and 1000 are available"),
    ];
    for (n, (token, change, remedy)) in table.into_iter().enumerate() {
        let mut config = from_hub(&hub, token, state.path(), &format!("agent-{n}"));
        change(&mut config);
        let agent = TestAgent::start_with(config);
        let error = failed(&agent, remedy).await;
        assert!(error.contains("hf://boyle/"), "{error}");
        assert_eq!(agent.probe("/livez").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_at_the_source_is_named() {
    let (hub, cluster) = cluster(1, 1).await;
    let agent = &cluster.agents[0];
    agent.status_when(|status| status.model.is_some()).await;
    // Text files are here already; the weights' address is asked for again once it is refused.
    hub.told_digest.lock().unwrap().insert(WEIGHTS.into(), "0f".repeat(32));
    hub.troubles.lock().unwrap().extend([Trouble::Status(403); 32]);
    agent.assign(assignment(&cluster, agent, 1)).await.unwrap();
    let error = failed(agent, "has changed at the source").await;
    assert!(error.contains(WEIGHTS) && error.contains(&"0f".repeat(32)), "{error}");
    assert_eq!(agent.assign(assignment(&cluster, agent, 1)).await.unwrap(), 1, "it still answers");
}

/// The checkpoint without its layer for predicting several tokens, which is not served: all that is left is needed.
fn served_tensors(file: &[u8]) -> Vec<u8> {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (json, data) = file[8..].split_at(header);
    let tensors: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).unwrap();
    let (mut kept, mut content) = (serde_json::Map::new(), Vec::new());
    for (name, mut tensor) in tensors {
        if name.starts_with("model.layers.5.") || name == "__metadata__" {
            continue;
        }
        let at = |n: usize| tensor["data_offsets"][n].as_u64().unwrap() as usize;
        let start = content.len();
        content.extend_from_slice(&data[at(0)..at(1)]);
        tensor["data_offsets"] = serde_json::json!([start, content.len()]);
        kept.insert(name, tensor);
    }
    let json = serde_json::to_vec(&kept).unwrap();
    [&(json.len() as u64).to_le_bytes()[..], &json, &content].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_weights_are_noticed_and_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    copy_model(folder.path());
    let good = Bytes::from(served_tensors(&std::fs::read(folder.path().join(WEIGHTS)).unwrap()));
    std::fs::write(folder.path().join(WEIGHTS), &good).unwrap();
    let hub = Hub::start(folder.path(), None).await;
    let state = tempfile::tempdir().unwrap();
    let agents = vec![TestAgent::start_with(from_hub(&hub, None, state.path(), "agent-0"))];
    let cluster = Cluster { agents, copies: 1, state };
    let agent = &cluster.agents[0];
    agent.status_when(|status| status.model.is_some()).await;
    let digest = {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(&good);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    // The hub tells the right digest, and one bit is wrong on the way.
    hub.told_digest.lock().unwrap().insert(WEIGHTS.into(), digest.clone());
    let mut bad = good.to_vec();
    for byte in bad.iter_mut().skip(good.len() / 2).step_by(5000) {
        *byte ^= 1;
    }
    hub.files.lock().unwrap().insert(WEIGHTS.into(), bad.into());
    agent.assign(assignment(&cluster, agent, 1)).await.unwrap();
    let error = failed(agent, "digest").await;
    assert!(error.contains(WEIGHTS) && error.contains(&digest), "{error}");
    hub.files.lock().unwrap().insert(WEIGHTS.into(), good);
    // By itself: nobody assigns anything again.
    let is_ready = |status: &proto::v1::AgentStatus| status.phase() == AgentPhase::Ready;
    agent.status_after_all(is_ready).await;
    let question = &questions(1)[0];
    assert_eq!(agent.ask(question).await, expected(question).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_shard_is_named_and_a_mended_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    copy_model(folder.path());
    let weights = std::fs::read(folder.path().join(WEIGHTS)).unwrap();
    std::fs::write(folder.path().join(WEIGHTS), &weights[..weights.len() / 2]).unwrap();
    let hub = Hub::start(folder.path(), None).await;
    let state = tempfile::tempdir().unwrap();
    let agent = TestAgent::start_with(from_hub(&hub, None, state.path(), "agent-0"));
    let error = failed(&agent, "truncated").await;
    assert!(error.contains(WEIGHTS), "{error}");
    hub.files.lock().unwrap().insert(WEIGHTS.into(), weights.into());
    agent.status_after_all(|status| status.model.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_needs_no_source_for_what_it_has() {
    let (hub, mut cluster) = cluster(1, 1).await;
    let agent = &cluster.agents[0];
    agent.assign(assignment(&cluster, agent, 1)).await.unwrap();
    agent.ready(1).await;
    let (served, listings) = (hub.served(), hub.listings.load(Ordering::SeqCst));
    cluster.agents.pop().unwrap().kill();
    let config = from_hub(&hub, None, cluster.state.path(), "agent-0");
    let agent = TestAgent::start_with(config);
    agent.ready(1).await;
    assert_eq!(hub.served(), served);
    assert_eq!(hub.listings.load(Ordering::SeqCst), listings);
    let other = AgentConfig {
        model: ModelArguments {
            source: Some("hf://other/model".into()),
            ..ModelArguments::default()
        },
        ..AgentConfig::new("agent-0", cluster.state.path().join("agent-0"))
    };
    drop(agent);
    // The recorded assignment is for another model than this process's: it waits for one of its own.
    cluster.agents.push(TestAgent::start_with(other));
    let agent = &cluster.agents[0];
    let error = agent.assign(assignment(&cluster, agent, 2)).await;
    assert!(error.is_err_and(|error| error.code() == Code::FailedPrecondition));
}
