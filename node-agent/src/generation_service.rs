//! gRPC service `Generation`: one request in, its token events out.

use crate::board::Board;
use crate::driver::{Command, EngineGone};
use crate::limits::{PREPARING_MAX, REQUEST_ID_BYTES_MAX};
use crate::prompt::{self, Prompt};
use crate::request::{Refusal, parse_sampling, parse_stop};
use crate::sequence_stream::SequenceStream;
use crate::serving::Serving;
use engine::request::Request as EngineRequest;
use model::template::Reasoning;
use proto::v1::generation_server::Generation;
use proto::v1::{AgentPhase, GenerateRequest, PromptAccepted, ReasoningState};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::{Request, Response, Status};

/// Events of a sequence beside its tokens: admission, the end, and one to spare.
const EVENTS_BESIDE_TOKENS: usize = 3;

/// The service; `serving` is empty before the first load.
#[derive(Debug)]
pub struct GenerationService {
    board: Arc<Board>,
    serving: watch::Receiver<Option<Arc<Serving>>>,
    preparing: Semaphore,
}

impl GenerationService {
    pub fn new(board: Arc<Board>, serving: watch::Receiver<Option<Arc<Serving>>>) -> Self {
        Self { board, serving, preparing: Semaphore::new(PREPARING_MAX) }
    }

    /// The model, when requests may be taken.
    fn serving(&self) -> Result<Arc<Serving>, Refusal> {
        let phase = self.board.phase();
        let unavailable = |reason: &str| Refusal::Unavailable { reason: reason.into() };
        let serving = self.serving.borrow().clone();
        match (phase, serving) {
            (AgentPhase::Draining, _) => Err(unavailable("it is draining")),
            (_, Some(serving)) if serving.is_tested() => Ok(serving),
            (AgentPhase::Unassigned, _) => Err(unavailable("it has no assignment yet")),
            (AgentPhase::Failed, _) => Err(unavailable("its model could not be loaded")),
            (AgentPhase::Loading | AgentPhase::Ready, _) => {
                Err(unavailable("its model is still loading"))
            }
        }
    }

    /// Everything about the request that can be checked without the engine.
    async fn parse(
        &self,
        serving: &Serving,
        wire: GenerateRequest,
    ) -> Result<(EngineRequest, Reasoning), Refusal> {
        // No `..`: a new field must not be forgotten here.
        let GenerateRequest { request_id, model, input, emitted_token_ids, sampling, stop } = wire;
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            let reason =
                format!("has {} bytes, more than {REQUEST_ID_BYTES_MAX}", request_id.len());
            return Err(Refusal::invalid("request_id", reason));
        }
        if model != serving.deployment {
            let served = serving.deployment.clone();
            return Err(Refusal::UnknownModel { asked: model, served });
        }
        let sampling = parse_sampling(sampling, serving.vocab_size)?;
        let stop = parse_stop(stop, serving.context_length, serving.vocab_size)?;
        let place = self.preparing.try_acquire().map_err(|_| Refusal::Preparing)?;
        let Prompt { token_ids, reasoning } = prompt::prepare(&serving.text, input).await?;
        drop(place);
        tracing::debug!(request_id, prompt_tokens = token_ids.len(), "request");
        let request =
            EngineRequest { prompt_token_ids: token_ids, emitted_token_ids, sampling, stop };
        Ok((request, reasoning))
    }
}

#[tonic::async_trait]
impl Generation for GenerationService {
    type GenerateStream = SequenceStream;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<SequenceStream>, Status> {
        let serving = self.serving()?;
        let prompt_param = prompt::param(request.get_ref().input.as_ref());
        let (request, reasoning) = self.parse(&serving, request.into_inner()).await?;
        let prompt_token_ids = request.prompt_token_ids.clone();
        let (events, event_stream) = mpsc::channel(request.stop.max_tokens + EVENTS_BESIDE_TOKENS);
        let (accepted, taken) = oneshot::channel();
        let submit = Command::Submit { request: Box::new(request), events, accepted };
        serving.commands.send(submit).await.map_err(stopped)?;
        let sequence = taken
            .await
            .map_err(|_| stopped(EngineGone))?
            .map_err(|source| Refusal::Submit { prompt: prompt_param, source })?;
        let reasoning = match reasoning {
            Reasoning::Open => ReasoningState::Open,
            Reasoning::Closed => ReasoningState::Closed,
        };
        // How many are cached is known when it leaves the queue.
        let prompt =
            PromptAccepted { prompt_token_ids, reasoning: reasoning.into(), cached_tokens: 0 };
        let commands = serving.commands.clone();
        Ok(Response::new(SequenceStream::new(prompt, sequence, event_stream, commands)))
    }
}

fn stopped(error: EngineGone) -> Status {
    Status::from(Refusal::Unavailable { reason: error.to_string() })
}
