//! The control service: the substrate says which agents may be homes, and asks how it goes.

use crate::homes::{Homes, Replaced, SetHomesError};
use crate::metrics::Metrics;
use proto::v1::router_control_server::RouterControl;
use proto::v1::{GetRouterStatusRequest, RouterStatus, SetHomesReply, SetHomesRequest};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service's state.
#[derive(Debug)]
pub struct Control {
    pub homes: Arc<Homes>,
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl RouterControl for Control {
    async fn set_homes(
        &self,
        request: Request<SetHomesRequest>,
    ) -> Result<Response<SetHomesReply>, Status> {
        let request = request.into_inner();
        let (generation, homes) = (request.generation, request.homes.len());
        if self.homes.replace(request).map_err(status)? == Replaced::Changed {
            tracing::info!(generation, homes, "homes set");
        }
        Ok(Response::new(SetHomesReply { generation }))
    }

    async fn get_router_status(
        &self,
        _request: Request<GetRouterStatusRequest>,
    ) -> Result<Response<RouterStatus>, Status> {
        let (_, ready) = self.homes.counts();
        let in_flight = self.metrics.requests_in_flight.get();
        Ok(Response::new(RouterStatus {
            generation: self.homes.generation(),
            homes_ready: u32::try_from(ready).unwrap_or(u32::MAX),
            requests_total: self.metrics.requests_received.get(),
            requests_in_flight: u32::try_from(in_flight).unwrap_or(0),
            resumes_total: self.metrics.resumes.get(),
            prompt_tokens_total: self.metrics.prompt_tokens.get(),
            cached_tokens_total: self.metrics.cached_tokens.get(),
            reasoning_tokens_total: self.metrics.reasoning_tokens.get(),
            generation_tokens_total: self.metrics.generation_tokens.get(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RouterStatus::default()
        }))
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn status(error: SetHomesError) -> Status {
    match error {
        SetHomesError::Older { .. } | SetHomesError::Different { .. } => {
            Status::failed_precondition(error.to_string())
        }
        SetHomesError::ModelEmpty
        | SetHomesError::TooMany { .. }
        | SetHomesError::AgentId { .. }
        | SetHomesError::Address { .. } => Status::invalid_argument(error.to_string()),
    }
}
