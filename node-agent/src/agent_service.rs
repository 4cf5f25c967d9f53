//! gRPC service `Agent`: assignments in, status out.

use crate::board::Board;
use crate::closing::{Closing, UntilClosing};
use crate::describe;
use crate::expert_files::{ExpertFiles, ExpertStreams};
use crate::registry::{AssignError, Registry};
use proto::refusal::{ASSIGN_REFUSAL, NEEDS_RESTART, WRONG_MODEL};
use proto::v1::agent_server::Agent;
use proto::v1::{
    AgentStatus, AssignReply, Assignment, DrainRequest, ExpertChunk, FetchExpertRequest,
    GetStatusRequest,
};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

/// The service over its registry and board.
#[derive(Debug)]
pub struct AgentService {
    pub registry: Arc<Registry>,
    pub board: Arc<Board>,
    pub expert_files: watch::Receiver<Option<Arc<ExpertFiles>>>,
    pub expert_streams: ExpertStreams,
    /// Its change ends streams that would never end by themselves.
    pub closing: Closing,
}

type StatusStream = Pin<Box<dyn Stream<Item = Result<AgentStatus, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for AgentService {
    async fn assign(&self, request: Request<Assignment>) -> Result<Response<AssignReply>, Status> {
        let generation = self.registry.assign(request.into_inner()).await.map_err(|error| {
            let reason = describe(&error);
            tracing::warn!(reason, "assignment not taken");
            status_of(&error, reason)
        })?;
        Ok(Response::new(AssignReply { generation }))
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<AgentStatus>, Status> {
        Ok(Response::new(self.board.snapshot()))
    }

    type WatchStatusStream = StatusStream;

    async fn watch_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<StatusStream>, Status> {
        let statuses = WatchStream::new(self.board.watch()).map(Ok);
        Ok(Response::new(Box::pin(UntilClosing::new(statuses, self.closing.clone()))))
    }

    type FetchExpertStream = ReceiverStream<Result<ExpertChunk, Status>>;

    async fn fetch_expert(
        &self,
        request: Request<FetchExpertRequest>,
    ) -> Result<Response<Self::FetchExpertStream>, Status> {
        let files = self.expert_files.borrow().clone();
        let files = files.ok_or_else(|| Status::not_found("this agent has no experts yet"))?;
        Ok(Response::new(self.expert_streams.open(&files, request.get_ref())?))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<AgentStatus>, Status> {
        tracing::info!("draining: no new sequences from now on");
        self.board.drain();
        Ok(Response::new(self.board.snapshot()))
    }
}

fn status_of(error: &AssignError, reason: String) -> Status {
    match error {
        AssignError::Invalid(_) => Status::invalid_argument(reason),
        AssignError::Older { .. } | AssignError::SameGenerationOtherContent { .. } => {
            Status::failed_precondition(reason)
        }
        AssignError::NeedsRestart { .. } => refusal(reason, NEEDS_RESTART),
        AssignError::OtherModel { .. } | AssignError::NoModel { .. } => {
            refusal(reason, WRONG_MODEL)
        }
        AssignError::Store(_) | AssignError::Stopped => Status::internal(reason),
    }
}

fn refusal(reason: String, kind: &'static str) -> Status {
    let mut status = Status::failed_precondition(reason);
    status.metadata_mut().insert(ASSIGN_REFUSAL, MetadataValue::from_static(kind));
    status
}
