//! A wish → what the planner is asked for. Pure.

use crate::kubernetes::Wish;
use crds::DeploymentRequest;
use planner::cost::Price;
use planner::engine::EngineRequest;
use planner::spec::{FactsFrom, Goal, ModelSource, ReplicaRange, Scaling};
use std::time::Duration;

/// A deployment that never sleeps: longer than any cluster lives.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What the reconciler keeps.
pub fn goal(wish: &Wish) -> Goal {
    let request = &wish.target.request;
    Goal {
        name: request.name.clone(),
        source: ModelSource::Remote {
            uri: request.source.to_string(),
            revision: request.revision.clone(),
        },
        facts: FactsFrom::Agents,
        agents: ReplicaRange { min: request.agents.min, max: request.agents.max },
        routers: ReplicaRange { min: request.router.min, max: request.router.max },
        copies: request.copies,
        engine: EngineRequest {
            context_length: request.context_length,
            ..EngineRequest::default()
        },
        scaling: Scaling {
            time_to_first_token: request.objectives.time_to_first_token,
            time_per_output_token: request.objectives.time_per_output_token,
            scale_down_delay: request.scale_down_delay,
            sleep_after: request.sleep_after.unwrap_or(NEVER),
        },
        price: price(request),
    }
}

/// Of one agent: all its accelerators, or the machine when it has none.
fn price(request: &DeploymentRequest) -> Option<Price> {
    let hour = request.cost.accelerator_hour?;
    let count = request.accelerator.as_ref().map_or(1, |accelerator| u64::from(accelerator.count));
    Some(Price {
        agent_hour_millionths: hour.millionths.saturating_mul(count),
        currency: request.cost.currency.clone(),
    })
}
