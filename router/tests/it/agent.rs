//! An agent that follows a script, for the failures that a real one does not show on demand.
//!
//! It has a runtime of its own, so that killing it closes its sockets as a killed process does.

use proto::tls::Security;
use proto::v1::agent_server::{Agent, AgentServer};
use proto::v1::generate_event::Event;
use proto::v1::generate_request::Input;
use proto::v1::generation_server::{Generation, GenerationServer};
use proto::v1::{
    AgentPhase, AgentStatus, AssignReply, Assignment, DrainRequest, ExpertChunk,
    FetchExpertRequest, FinishReason, Finished, GenerateEvent, GenerateRequest, GetStatusRequest,
    Load, PromptAccepted, ReasoningState, TokenDelta, TokenLogprob, TokenLogprobs,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

/// Token ids of the prompt, whatever the input was.
pub const PROMPT: [u32; 3] = [101, 102, 103];

/// Tokens of a prompt that came as text or messages which are found cached.
pub const CACHED: u32 = 2;

/// Tokens of a prompt that came as ids which are found cached.
const CACHED_IN_REPLAY: u32 = 1;

/// What happens to one `Generate` call.
#[derive(Clone, Debug)]
pub enum Act {
    /// The whole answer.
    Serve,
    /// The whole answer with all its tokens in one event.
    ServeAtOnce,
    /// No stream at all.
    Refuse(Status),
    /// Taken into the queue, then this status before the prompt.
    BreakQueued(Status),
    /// The prompt and so many tokens, then this status.
    BreakAfter(usize, Status),
    /// The prompt and so many tokens, then the stream ends without `Finished`.
    EndAfter(usize),
    /// The prompt and so many tokens, then silence.
    HangAfter(usize),
    /// Silence from the start.
    Hang,
}

/// The tokens that every agent of a test generates: id and text.
#[derive(Clone, Debug)]
pub struct Answer {
    pub tokens: Vec<(u32, &'static str)>,
    pub reasoning: ReasoningState,
}

#[derive(Debug)]
struct Shared {
    answer: Answer,
    acts: Mutex<VecDeque<Act>>,
    requests: mpsc::UnboundedSender<GenerateRequest>,
    cancelled: mpsc::UnboundedSender<String>,
    status: Mutex<Option<watch::Sender<AgentStatus>>>,
}

/// The test's handle.
#[derive(Debug)]
pub struct ScriptedAgent {
    pub id: String,
    pub address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
    requests: mpsc::UnboundedReceiver<GenerateRequest>,
    cancelled: mpsc::UnboundedReceiver<String>,
}

impl ScriptedAgent {
    /// Plays `acts` one call after the other, then serves. READY from the start.
    pub fn start(id: &str, answer: Answer, acts: Vec<Act>) -> Self {
        Self::start_secured(id, answer, acts, Security::Plaintext)
    }

    /// The same behind mutual TLS.
    pub fn start_secured(id: &str, answer: Answer, acts: Vec<Act>, security: Security) -> Self {
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (cancelled_sender, cancelled) = mpsc::unbounded_channel();
        let status = status(id, AgentPhase::Ready, 0);
        let shared = Arc::new(Shared {
            answer,
            acts: Mutex::new(acts.into()),
            requests: request_sender,
            cancelled: cancelled_sender,
            status: Mutex::new(Some(watch::Sender::new(status))),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service { shared: Arc::clone(&shared) };
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .layer(security.authorise())
                .add_service(GenerationServer::new(service.clone()))
                .add_service(AgentServer::new(service))
                .serve_with_incoming(security.incoming(listener))
                .await
                .unwrap();
        });
        Self { id: id.to_owned(), address, shared, runtime: Some(runtime), requests, cancelled }
    }

    pub fn set_status(&self, phase: AgentPhase, sequences: u32) {
        let sender = self.shared.status.lock().unwrap();
        sender.as_ref().unwrap().send_replace(status(&self.id, phase, sequences));
    }

    /// Ends all status streams and refuses new ones; `Generate` goes on.
    pub fn lose_status(&self) {
        self.shared.status.lock().unwrap().take();
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// The next `Generate` call's request.
    pub async fn request(&mut self) -> GenerateRequest {
        self.requests.recv().await.unwrap()
    }

    pub fn requests_so_far(&mut self) -> usize {
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }

    /// Waits until some call was cancelled by the router; its request id.
    pub async fn cancelled(&mut self) -> String {
        self.cancelled.recv().await.unwrap()
    }
}

impl Drop for ScriptedAgent {
    fn drop(&mut self) {
        self.kill();
    }
}

fn status(id: &str, phase: AgentPhase, sequences: u32) -> AgentStatus {
    AgentStatus {
        agent_id: id.to_owned(),
        phase: phase.into(),
        current: Some(Load { sequences_running: sequences, ..Load::default() }),
        context_length: 4096,
        ..AgentStatus::default()
    }
}

#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
}

type Events = mpsc::Sender<Result<GenerateEvent, Status>>;

#[tonic::async_trait]
impl Generation for Service {
    type GenerateStream = ReceiverStream<Result<GenerateEvent, Status>>;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let request = request.into_inner();
        let act = self.shared.acts.lock().unwrap().pop_front().unwrap_or(Act::Serve);
        let _ = self.shared.requests.send(request.clone());
        if let Act::Refuse(status) = act {
            return Err(status);
        }
        let (sender, receiver) = mpsc::channel(1);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let id = request.request_id.clone();
            if play(&shared, request, act, &sender).await.is_none() {
                let _ = shared.cancelled.send(id);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// `None` when the router dropped the call.
async fn play(shared: &Shared, request: GenerateRequest, act: Act, out: &Events) -> Option<()> {
    if let Act::Hang = act {
        out.closed().await;
        return None;
    }
    if let Act::BreakQueued(status) = act {
        let _ = out.send(Err(status)).await;
        return None;
    }
    // A replay may find more or less than the first home did.
    let (prompt_token_ids, cached_tokens) = match &request.input {
        Some(Input::PromptTokenIds(ids)) => (ids.ids.clone(), CACHED_IN_REPLAY),
        _ => (PROMPT.to_vec(), CACHED),
    };
    let mut accepted = PromptAccepted { prompt_token_ids, cached_tokens, reasoning: 0 };
    accepted.set_reasoning(shared.answer.reasoning);
    send(out, Event::Prompt(accepted)).await?;
    let stop = request.stop.clone().unwrap_or_default();
    let all = &shared.answer.tokens;
    let limit = stop.max_tokens.map_or(all.len(), |max| all.len().min(max as usize));
    let emitted = request.emitted_token_ids.len();
    let top = request.sampling.and_then(|sampling| sampling.top_logprobs);
    if let Act::ServeAtOnce = act {
        let deltas = all[emitted..limit].iter().map(|token| delta(*token, top));
        let joined = deltas.reduce(|mut joined, next| {
            joined.token_ids.extend(next.token_ids);
            joined.text.push_str(&next.text);
            joined.logprobs.extend(next.logprobs);
            joined.text_bytes.extend(next.text_bytes);
            joined
        });
        send(out, Event::Tokens(joined.unwrap())).await?;
        return send(out, Event::Finished(finished(limit, all.len()))).await;
    }
    for (sent, token) in all[..limit].iter().skip(emitted).enumerate() {
        cut(&act, sent, out).await?;
        send(out, Event::Tokens(delta(*token, top))).await?;
    }
    cut(&act, limit - emitted, out).await?;
    send(out, Event::Finished(finished(limit, all.len()))).await
}

fn finished(limit: usize, all: usize) -> Finished {
    let reason = if limit < all { FinishReason::Length } else { FinishReason::Stop };
    Finished { reason: reason.into(), ..Finished::default() }
}

/// Does what the act demands after `sent` tokens. `Some` means to go on; breaking ends the task as if cancelled,
/// which no test of such an act looks at.
async fn cut(act: &Act, sent: usize, out: &Events) -> Option<()> {
    match act {
        Act::BreakAfter(after, status) if *after == sent => {
            let _ = out.send(Err(status.clone())).await;
            None
        }
        Act::EndAfter(after) if *after == sent => None,
        Act::HangAfter(after) if *after == sent => {
            out.closed().await;
            None
        }
        _ => Some(()),
    }
}

async fn send(out: &Events, event: Event) -> Option<()> {
    out.send(Ok(GenerateEvent { event: Some(event) })).await.ok()
}

fn delta((id, text): (u32, &'static str), top: Option<u32>) -> TokenDelta {
    let logprob = |id: u32, logprob| TokenLogprob { token_id: id, logprob, bytes: text.into() };
    let logprobs = top.map(|top| TokenLogprobs {
        chosen: Some(logprob(id, -0.5)),
        top: (0..top).map(|rank| logprob(id + rank, -0.5 - rank as f32)).collect(),
    });
    TokenDelta {
        token_ids: vec![id],
        text: text.to_owned(),
        logprobs: logprobs.into_iter().collect(),
        text_bytes: vec![text.len() as u32],
    }
}

#[tonic::async_trait]
impl Agent for Service {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<AgentStatus, Status>> + Send>>;

    async fn watch_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let sender = self.shared.status.lock().unwrap();
        let Some(sender) = sender.as_ref() else { return Err(Status::unavailable("no status")) };
        Ok(Response::new(Box::pin(WatchStream::new(sender.subscribe()).map(Ok))))
    }

    async fn assign(&self, _: Request<Assignment>) -> Result<Response<AssignReply>, Status> {
        Err(Status::unimplemented("scripted"))
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<AgentStatus>, Status> {
        Err(Status::unimplemented("scripted"))
    }

    type FetchExpertStream = tokio_stream::Empty<Result<ExpertChunk, Status>>;

    async fn fetch_expert(
        &self,
        _: Request<FetchExpertRequest>,
    ) -> Result<Response<Self::FetchExpertStream>, Status> {
        Err(Status::not_found("no expert lives here"))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<AgentStatus>, Status> {
        Err(Status::unimplemented("scripted"))
    }
}
