//! What an agent that was started with a model tells of it, and which assignments it takes.

use crate::cluster::{Cluster, TestAgent, copy_model, model_directory, questions};
use node_agent::embedded::{EmbeddedModel, ModelFile};
use node_agent::fingerprint::TEXT_FILES;
use node_agent::{AgentConfig, ModelArguments};
use proto::v1::{AgentPhase, Assignment, ModelSource};
use std::path::Path;
use tonic::Code;

fn started_with(source: &str, state: &Path) -> AgentConfig {
    let model = ModelArguments { source: Some(source.into()), ..ModelArguments::default() };
    AgentConfig { model, ..AgentConfig::new("agent-0", state) }
}

fn source_of(directory: &Path) -> String {
    format!("file://{}", directory.canonicalize().unwrap_or(directory.into()).display())
}

/// An assignment that names a source and leaves the folder to the agent.
fn from_source(cluster: &Cluster, generation: u64, uri: &str, fingerprint: &str) -> Assignment {
    let model = ModelSource {
        uri: uri.into(),
        revision: "main".into(),
        fingerprint: fingerprint.into(),
        ..ModelSource::default()
    };
    let assignment = cluster.assignment(&cluster.agents[0], generation);
    Assignment { model: Some(model), ..assignment }
}

async fn fingerprint_of(source: &str, embedded: &'static [EmbeddedModel]) -> String {
    let state = tempfile::tempdir().unwrap();
    let config = AgentConfig { embedded, ..started_with(source, state.path()) };
    let agent = TestAgent::start_with(config);
    let status = agent.status_when(|status| status.model.is_some()).await;
    status.model.unwrap().fingerprint
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_are_known_before_any_assignment_and_bind_the_agent() {
    let state = tempfile::tempdir().unwrap();
    let source = source_of(&model_directory());
    let config = AgentConfig {
        memory_bytes: Some(3 << 30),
        ..started_with(&source, &state.path().join("agent-0"))
    };
    let cluster = Cluster { agents: vec![TestAgent::start_with(config)], copies: 1, state };
    let agent = &cluster.agents[0];
    let status = agent.status_when(|status| status.model.is_some()).await;
    assert_eq!(status.phase(), AgentPhase::Unassigned);
    assert_eq!(status.memory_bytes, 3 << 30);
    let facts = status.model.unwrap();
    assert_eq!(facts.moe_layers, [1, 2, 3, 4, 5]);
    assert_eq!(facts.experts_per_layer, 16);
    assert_eq!(facts.architecture, "DeepseekV3ForCausalLM");
    assert_eq!(facts.fingerprint.len(), 64);
    assert!(facts.dense_bytes > 0 && facts.expert_bytes > 0 && facts.cache_token_bytes > 0);
    assert!(facts.context_length_max > 0);

    let refused = async |uri: &str, fingerprint: &str| {
        let assignment = from_source(&cluster, 1, uri, fingerprint);
        let error = agent.assign(assignment).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        error.message().to_owned()
    };
    let message = refused("hf://other/model", &facts.fingerprint).await;
    assert!(message.contains("hf://other/model") && message.contains(&source), "{message}");
    let message = refused(&source, "other").await;
    assert!(message.contains("other") && message.contains(&facts.fingerprint), "{message}");

    agent.assign(from_source(&cluster, 1, &source, &facts.fingerprint)).await.unwrap();
    agent.ready(1).await;
    let question = &questions(1)[0];
    let plain = Cluster::ready(1, 1).await;
    assert_eq!(agent.ask(question).await, plain.agents[0].ask(question).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_source_says_so() {
    let cluster = Cluster::idle(1, 1);
    let assignment = from_source(&cluster, 1, "hf://owner/name", "");
    let error = cluster.agents[0].assign(assignment).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("BOYLE_MODEL_SOURCE"), "{error}");
}

/// Where a tensor's data begins in a safetensors file.
fn tensor_start(file: &[u8], name: &str) -> usize {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
    8 + header + json[name]["data_offsets"][0].as_u64().unwrap() as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fingerprint_is_of_the_content_and_not_of_the_place() {
    let files: Vec<ModelFile> = TEXT_FILES
        .iter()
        .chain(&["model.safetensors"])
        .filter_map(|name| {
            let bytes = std::fs::read(model_directory().join(name)).ok()?;
            Some(ModelFile { name, bytes: bytes.leak() })
        })
        .collect();
    let embedded = vec![EmbeddedModel { name: "tiny-r1", files: files.leak() }].leak();
    let original = fingerprint_of(&source_of(&model_directory()), embedded).await;
    assert_eq!(fingerprint_of("embedded://tiny-r1", embedded).await, original);

    let copy = tempfile::tempdir().unwrap();
    copy_model(copy.path());
    assert_eq!(fingerprint_of(&source_of(copy.path()), &[]).await, original);
    std::fs::write(copy.path().join("README.md"), "beside the model").unwrap();
    assert_eq!(fingerprint_of(&source_of(copy.path()), &[]).await, original);

    // Training moves nearly every weight; one byte of a small tensor is found too.
    let weights = copy.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let norm = tensor_start(&bytes, "model.norm.weight");
    bytes[norm] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_ne!(fingerprint_of(&source_of(copy.path()), &[]).await, original);

    copy_model(copy.path());
    let template = copy.path().join("chat_template.jinja");
    std::fs::write(template, "{{ messages[0].content }}").unwrap();
    assert_ne!(fingerprint_of(&source_of(copy.path()), &[]).await, original);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_source_is_told_and_tried_again() {
    let state = tempfile::tempdir().unwrap();
    let later = state.path().join("later");
    let agent = TestAgent::start_with(started_with(&source_of(&later), &state.path().join("a")));
    let status = agent.status_after_all(|status| status.phase() == AgentPhase::Failed).await;
    assert!(status.error.contains(&source_of(&later)), "{}", status.error);
    assert!(status.error.contains("mount"), "{}", status.error);
    assert_eq!(agent.probe("/livez").await.0, 200, "nothing that a restart would mend");
    std::fs::create_dir(&later).unwrap();
    copy_model(&later);
    let status = agent.status_after_all(|status| status.model.is_some()).await;
    assert_eq!((status.phase(), status.error.as_str()), (AgentPhase::Unassigned, ""));

    let table = [("gopher://x", "hf://owner/name"), ("embedded://nothing", "it has none")];
    for (source, remedy) in table {
        let agent = TestAgent::start_with(started_with(source, &state.path().join("b")));
        let status = agent.status_after_all(|status| status.phase() == AgentPhase::Failed).await;
        assert!(status.error.contains(source) && status.error.contains(remedy), "{}", status.error);
    }
}
