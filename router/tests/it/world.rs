//! A running router with its control client, and what tests read from its answers.

use crate::agent::{Answer, ScriptedAgent};
use proto::tls::{Deployment, Expected, Security};
use proto::v1::router_control_client::RouterControlClient;
use proto::v1::{Home, ReasoningState, RouterStatus, SetHomesRequest};
use router::{Patience, RouterConfig};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

pub const MODEL: &str = "tiny";
/// Bound of every wait: far above what any of them takes on a loaded machine.
pub const WAIT: Duration = Duration::from_secs(60);

pub struct World {
    pub url: String,
    pub control_url: String,
    pub http: reqwest::Client,
    pub control: RouterControlClient<Channel>,
    /// The router stops when it is used or dropped.
    pub stop: oneshot::Sender<()>,
}

/// Long where a test must not run into it, and every wait that a test does run into is set by the test.
pub fn patience() -> Patience {
    Patience {
        header: WAIT,
        hold: WAIT,
        silence_without_status: WAIT,
        silence_with_status: WAIT,
        status_late: WAIT,
        status: WAIT,
        response_start: WAIT,
        keep_alive: WAIT,
        drain: Duration::ZERO,
        shutdown: Duration::ZERO,
    }
}

impl World {
    pub async fn start(config: RouterConfig) -> Self {
        Self::start_for(config, &Security::Plaintext).await
    }

    /// A router that this operator tells its homes.
    pub async fn start_for(config: RouterConfig, operator: &Security) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", http.local_addr().unwrap());
        let control_url = format!("http://{}", control.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            router::serve(config, http, control, shutdown).await.unwrap();
        });
        let endpoint = Endpoint::from_shared(control_url.clone()).unwrap();
        let deployment = Deployment::new(MODEL, "ns").unwrap();
        let channel = operator.connect(&endpoint, &Expected::routers_of(&deployment)).await;
        let control = RouterControlClient::new(channel.unwrap());
        let http = client();
        Self { url, control_url, http, control, stop }
    }

    /// A router that knows these agents, all of them ready.
    pub async fn with(patience: Patience, agents: &[&ScriptedAgent]) -> Self {
        let config = RouterConfig { patience, ..RouterConfig::default() };
        let mut world = Self::start(config).await;
        world.set_homes(1, agents).await;
        world.wait_for_ready(agents.len()).await;
        world
    }

    pub async fn set_homes(&mut self, generation: u64, agents: &[&ScriptedAgent]) {
        let homes = agents.iter().map(|agent| home(&agent.id, &agent.address.to_string()));
        let request =
            SetHomesRequest { generation, model: MODEL.to_owned(), homes: homes.collect() };
        self.control.set_homes(request).await.unwrap();
    }

    pub async fn status(&mut self) -> RouterStatus {
        self.control
            .get_router_status(proto::v1::GetRouterStatusRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    /// Polls until the router sees this many ready homes.
    pub async fn wait_for_ready(&mut self, count: usize) {
        let deadline = tokio::time::Instant::now() + WAIT;
        while self.status().await.homes_ready as usize != count {
            assert!(tokio::time::Instant::now() < deadline, "homes never became ready");
            tokio::task::yield_now().await;
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.http.post(format!("{}{path}", self.url)).json(body).send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// The answer of a chat that goes well.
    pub async fn chat(&self, body: &Value) -> Value {
        let response = self.post("/v1/chat/completions", body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn chat_stream(&self, body: &Value) -> Streamed {
        let response = self.post("/v1/chat/completions", body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{text}");
        Streamed::parse(&text)
    }
}

pub fn client() -> reqwest::Client {
    // It fails only when another test has done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(WAIT).build().unwrap()
}

pub fn home(agent_id: &str, address: &str) -> Home {
    Home { agent_id: agent_id.to_owned(), address: address.to_owned(), ..Home::default() }
}

/// A chat body with these fields added.
pub fn chat_body(extra: Value) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    merged(json!({"model": MODEL, "messages": messages}), extra)
}

pub fn completion_body(extra: Value) -> Value {
    merged(json!({"model": MODEL, "prompt": "once"}), extra)
}

pub fn merged(mut base: Value, extra: Value) -> Value {
    let Value::Object(extra) = extra else { panic!("fields of an object") };
    base.as_object_mut().unwrap().extend(extra);
    base
}

/// An object's keys, sorted.
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Six tokens: two of reasoning, the closing tag, three of content.
pub fn reasoning_answer() -> Answer {
    let tokens =
        vec![(1, "two"), (2, " plus"), (3, "</think>"), (4, "\n\nfo"), (5, "ur"), (6, " 🦀")];
    Answer { tokens, reasoning: ReasoningState::Open }
}

/// A server-sent stream, taken apart.
#[derive(Debug)]
pub struct Streamed {
    pub chunks: Vec<Value>,
    pub done: bool,
    pub comments: usize,
}

impl Streamed {
    pub fn parse(text: &str) -> Self {
        let mut streamed = Self { chunks: Vec::new(), done: false, comments: 0 };
        assert!(text.is_empty() || text.ends_with("\n\n"), "the last event is cut: {text:?}");
        for event in text.split_terminator("\n\n") {
            assert!(!streamed.done, "an event after [DONE]: {event:?}");
            if event.starts_with(':') {
                streamed.comments += 1;
                continue;
            }
            let data = event.strip_prefix("data: ").expect("an event has data");
            assert!(!data.contains('\n'), "{event:?}");
            match data {
                "[DONE]" => streamed.done = true,
                data => streamed.chunks.push(serde_json::from_str(data).unwrap()),
            }
        }
        streamed
    }

    /// The deltas' texts under `key`, put together, of one choice.
    pub fn text(&self, choice: usize, key: &str) -> String {
        let deltas = self.choices(choice).filter_map(|choice| choice["delta"][key].as_str());
        deltas.collect()
    }

    pub fn finish_reasons(&self, choice: usize) -> Vec<&str> {
        self.choices(choice).filter_map(|choice| choice["finish_reason"].as_str()).collect()
    }

    pub fn choices(&self, index: usize) -> impl Iterator<Item = &Value> {
        let all = self.chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
        all.filter(move |choice| choice["index"] == index)
    }
}
