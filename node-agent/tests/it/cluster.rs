//! Agents for tests: start, assign, ask, kill.

use crate::credentials::Credentials;
use node_agent::{AgentConfig, Listeners, serve};
use proto::tls::{Deployment, Expected, Security};
use proto::v1::agent_client::AgentClient;
use proto::v1::generation_client::GenerationClient;
use proto::v1::{
    AgentPhase, AgentStatus, Assignment, ChatInput, EndOfSequence, EngineSettings, ExpertPlacement,
    GenerateRequest, GetStatusRequest, ModelSource, Peer, SamplingParameters, StopConditions,
    generate_event::Event, generate_request::Input,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

pub const DEPLOYMENT: &str = "tiny-r1";
/// MoE layers and routed experts of the embedded model.
pub const LAYERS: std::ops::Range<u32> = 1..5;
pub const EXPERTS: u32 = 16;
/// A test that waits longer has failed; a busy machine loads the model within a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn model_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1")
}

fn listener() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// One agent. Dropping it kills it: all its tasks and sockets are gone at once.
pub struct TestAgent {
    pub id: String,
    pub address: String,
    pub http_address: String,
    credentials: Credentials,
    runtime: Option<Runtime>,
}

impl TestAgent {
    pub fn start(id: &str, state_directory: &Path) -> Self {
        Self::start_with(AgentConfig::new(id, state_directory))
    }

    /// An agent with all that it may be told.
    pub fn start_with(config: AgentConfig) -> Self {
        Self::start_secured(config, &Credentials::plaintext())
    }

    /// An agent that others talk to with these.
    pub fn start_secured(config: AgentConfig, credentials: &Credentials) -> Self {
        let config = AgentConfig { security: credentials.agent.clone(), ..config };
        let credentials = credentials.clone();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (grpc, address) = listener();
        let (http, http_address) = listener();
        let id = config.agent_id.clone();
        runtime.spawn(async move {
            let grpc = TcpListener::from_std(grpc).unwrap();
            let http = Some(TcpListener::from_std(http).unwrap());
            serve(config, Listeners { grpc, http }, std::future::pending()).await.unwrap();
        });
        Self { id, address, http_address, credentials, runtime: Some(runtime) }
    }

    /// An agent that runs elsewhere.
    pub fn remote(id: &str, address: &str) -> Self {
        let http_address = String::new();
        let credentials = Credentials::plaintext();
        Self { id: id.into(), address: address.into(), http_address, credentials, runtime: None }
    }

    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub async fn channel(&self) -> Channel {
        let expected = self.expected();
        self.credentials.operator.connect(&self.endpoint(), &expected).await.unwrap()
    }

    /// A channel of this caller.
    pub fn channel_as(&self, caller: &Security) -> Channel {
        caller.lazy(&self.endpoint(), &self.expected())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    fn expected(&self) -> Expected {
        match self.credentials.agent.identity() {
            Some(identity) => Expected::Named(identity.clone()),
            None => Expected::agents_of(&Deployment::new(DEPLOYMENT, "ns").unwrap()),
        }
    }

    pub async fn client(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel().await)
    }

    pub async fn assign(&self, assignment: Assignment) -> Result<u64, Status> {
        let reply = self.client().await.assign(assignment).await?;
        Ok(reply.into_inner().generation)
    }

    pub async fn status(&self) -> AgentStatus {
        self.client().await.get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }

    /// The first status that satisfies `wanted`.
    pub async fn status_when(&self, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let watch = self.client().await.watch_status(GetStatusRequest {}).await;
        let mut statuses = watch.unwrap().into_inner();
        let found = async {
            loop {
                let status = statuses.message().await.unwrap().unwrap();
                if wanted(&status) {
                    return status;
                }
                let failed = status.phase() == AgentPhase::Failed;
                assert!(!failed, "{} failed: {}", self.id, status.error);
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("{} does not get there", self.id))
    }

    pub async fn ready(&self, generation: u64) -> AgentStatus {
        self.status_when(|status| {
            status.phase() == AgentPhase::Ready && status.generation == generation
        })
        .await
    }

    /// The first status that satisfies `wanted`, whatever fails meanwhile.
    pub async fn status_after_all(&self, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let watch = self.client().await.watch_status(GetStatusRequest {}).await;
        let mut statuses = watch.unwrap().into_inner();
        let mut last = AgentStatus::default();
        let found = async {
            while !wanted(&last) {
                last = statuses.message().await.unwrap().unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "{} does not get there: {last:?}", self.id);
        last
    }

    /// Code and body of a probe.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(&self.http_address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub async fn generate(&self, request: GenerateRequest) -> Result<Answering, Status> {
        let mut client = GenerationClient::new(self.channel_as(&self.credentials.router));
        let mut request = Request::new(request);
        request.set_timeout(PATIENCE);
        let events = client.generate(request).await?.into_inner();
        Ok(Answering { events, answer: Answer::default(), cached_tokens: 0 })
    }

    /// The whole answer to a greedy chat question.
    pub async fn ask(&self, question: &str) -> Answer {
        self.generate(question_request(question)).await.unwrap().finish().await
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Everything a stream said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub prompt_token_ids: Vec<u32>,
    pub reasoning: i32,
    pub token_ids: Vec<u32>,
    pub text: String,
    pub finish_reason: Option<i32>,
}

/// A stream that is being read.
pub struct Answering {
    events: Streaming<proto::v1::GenerateEvent>,
    pub answer: Answer,
    /// Depends on what ran before, unlike the answer.
    pub cached_tokens: u32,
}

impl Answering {
    /// Takes one event; `false` after the last.
    pub async fn step(&mut self) -> Result<bool, Status> {
        let Some(event) = self.events.message().await? else { return Ok(false) };
        match event.event.unwrap() {
            Event::Prompt(prompt) => {
                assert_eq!(self.answer, Answer::default(), "the prompt comes first and once");
                self.answer.prompt_token_ids = prompt.prompt_token_ids;
                self.answer.reasoning = prompt.reasoning;
                self.cached_tokens = prompt.cached_tokens;
            }
            Event::Tokens(delta) => {
                assert!(self.answer.finish_reason.is_none(), "tokens after the end");
                self.answer.token_ids.extend(delta.token_ids);
                self.answer.text += &delta.text;
            }
            Event::Finished(finished) => {
                self.answer.text += &finished.text;
                self.answer.finish_reason = Some(finished.reason);
            }
        }
        Ok(true)
    }

    /// Reads until `count` tokens are there.
    pub async fn read_tokens(&mut self, count: usize) {
        while self.answer.token_ids.len() < count {
            assert!(self.step().await.unwrap(), "the stream ended early: {:?}", self.answer);
        }
    }

    pub async fn finish(mut self) -> Answer {
        while self.step().await.unwrap() {}
        assert!(self.answer.finish_reason.is_some(), "no end: {:?}", self.answer);
        self.answer
    }
}

/// Agents of one plan, and the folders that outlive them.
pub struct Cluster {
    pub agents: Vec<TestAgent>,
    pub state: TempDir,
    pub copies: usize,
}

impl Cluster {
    /// Agents without an assignment.
    pub fn idle(count: usize, copies: usize) -> Self {
        Self::idle_with(count, copies, &Credentials::plaintext())
    }

    /// Agents without an assignment that talk so.
    pub fn idle_with(count: usize, copies: usize, credentials: &Credentials) -> Self {
        let state = tempfile::tempdir().unwrap();
        let start = |index| {
            let id = format!("agent-{index}");
            let config = AgentConfig::new(&id, state.path().join(&id));
            TestAgent::start_secured(config, credentials)
        };
        Self { agents: (0..count).map(start).collect(), copies, state }
    }

    /// Agents that are ready.
    pub async fn ready(count: usize, copies: usize) -> Self {
        Self::ready_with(count, copies, &Credentials::plaintext()).await
    }

    /// Agents that are ready and talk so.
    pub async fn ready_with(count: usize, copies: usize, credentials: &Credentials) -> Self {
        let cluster = Self::idle_with(count, copies, credentials);
        for agent in &cluster.agents {
            agent.assign(cluster.assignment(agent, 1)).await.unwrap();
        }
        for agent in &cluster.agents {
            agent.ready(1).await;
        }
        cluster
    }

    /// The experts go round: copy `c` of expert `e` in layer `l` is on agent `(l + e + c) mod count`.
    pub fn assignment(&self, agent: &TestAgent, generation: u64) -> Assignment {
        let count = self.agents.len();
        let holders = |layer: u32, expert: u32| {
            let holder = |copy| (layer as usize + expert as usize + copy) % count;
            (0..self.copies.min(count)).map(|copy| self.agents[holder(copy)].id.clone()).collect()
        };
        let placement = LAYERS.flat_map(|layer| (0..EXPERTS).map(move |expert| (layer, expert)));
        Assignment {
            generation,
            deployment: DEPLOYMENT.into(),
            agent_id: agent.id.clone(),
            model: Some(ModelSource {
                directory: model_directory().to_str().unwrap().into(),
                ..ModelSource::default()
            }),
            peers: self
                .agents
                .iter()
                .map(|peer| Peer { agent_id: peer.id.clone(), address: peer.address.clone() })
                .collect(),
            placement: placement
                .map(|(layer, expert)| ExpertPlacement {
                    layer,
                    expert,
                    agent_ids: holders(layer, expert),
                })
                .collect(),
            settings: Some(settings()),
        }
    }
}

pub fn settings() -> EngineSettings {
    EngineSettings {
        context_length: 512,
        step_tokens_max: 128,
        sequences_max: 16,
        queue_max: 16,
        kv_cache_bytes: 64 << 20,
        expert_deadline_ms: 500,
        kernel_path: "auto".into(),
        draft_tokens_max: 3,
    }
}

/// A greedy chat request.
pub fn question_request(question: &str) -> GenerateRequest {
    let messages = serde_json::json!([{"role": "user", "content": question}]);
    let chat = ChatInput { messages_json: messages.to_string(), ..ChatInput::default() };
    GenerateRequest {
        request_id: "test".into(),
        model: DEPLOYMENT.into(),
        input: Some(Input::Chat(chat)),
        emitted_token_ids: Vec::new(),
        sampling: Some(greedy()),
        stop: Some(StopConditions::default()),
    }
}

/// Greedy, and on to the end of the context.
pub fn endless_request(question: &str) -> GenerateRequest {
    let stop = StopConditions {
        end_of_sequence: EndOfSequence::Ignore.into(),
        ..StopConditions::default()
    };
    GenerateRequest { stop: Some(stop), ..question_request(question) }
}

pub fn greedy() -> SamplingParameters {
    SamplingParameters {
        temperature: 0.0,
        top_p: 1.0,
        repetition_penalty: 1.0,
        ..SamplingParameters::default()
    }
}

/// Questions of the model's evaluation set, spread over its tasks.
pub fn questions(count: usize) -> Vec<String> {
    let file = std::fs::read_to_string(model_directory().join("eval.jsonl")).unwrap();
    let lines: Vec<&str> = file.lines().collect();
    let step = lines.len() / count;
    lines
        .into_iter()
        .step_by(step)
        .take(count)
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["question"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// A folder with the embedded model's files.
pub fn copy_model(target: &Path) {
    for name in node_agent::fingerprint::TEXT_FILES.into_iter().chain(["model.safetensors"]) {
        let source = model_directory().join(name);
        if source.exists() {
            std::fs::copy(source, target.join(name)).unwrap();
        }
    }
}

/// The value of a metric; `name` with its labels.
pub fn probe_value(metrics: &str, name: &str) -> f64 {
    let line =
        metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|it| it.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
