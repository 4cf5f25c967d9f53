//! The control service: the substrate says which agents may be homes, and asks how it goes.

use crate::homes::{Homes, Replaced, SetHomesError};
use crate::metrics::Metrics;
use crate::window::WINDOW;
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
        let recent = self.metrics.recent();
        Ok(Response::new(RouterStatus {
            generation: self.homes.generation(),
            homes_ready: u32::try_from(ready).unwrap_or(u32::MAX),
            requests_total: self.metrics.requests_received.get(),
            requests_in_flight: u32::try_from(in_flight).unwrap_or(0),
            resumes_total: self.metrics.resumes.get(),
            requests_held: u32::try_from(self.metrics.requests_held.get()).unwrap_or(0),
            window_seconds: u32::try_from(WINDOW.as_secs()).unwrap_or(u32::MAX),
            window_requests: recent.requests,
            time_to_first_token_p90_seconds: recent.time_to_first_token,
            time_per_output_token_p90_seconds: recent.time_per_output_token,
            idle_seconds: recent.idle.as_secs(),
            prompt_tokens_total: self.metrics.prompt_tokens.get(),
            cached_tokens_total: self.metrics.cached_tokens.get(),
            reasoning_tokens_total: self.metrics.reasoning_tokens.get(),
            generation_tokens_total: self.metrics.generation_tokens.get(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
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
        | SetHomesError::Address { .. }
        | SetHomesError::Role { .. } => Status::invalid_argument(error.to_string()),
    }
}
