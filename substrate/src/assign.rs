//! Plan → what one agent is told, and telling it.

use crate::watch::describe;
use planner::identity::{AgentId, Generation};
use planner::plan::Plan;
use proto::v1::agent_client::AgentClient;
use proto::v1::{Assignment, DrainRequest, EngineSettings, ExpertPlacement, ModelSource, Peer};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

/// Recording an assignment is one small file write on the agent; two seconds mean that it hangs.
const ASSIGN_DEADLINE: Duration = Duration::from_secs(2);
/// Tries within one reconcile. The next reconcile tries again, so this only bridges a connection hiccup.
const ASSIGN_ATTEMPTS: u32 = 2;

/// What became of one agent's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignOutcome {
    /// The agent has recorded it.
    Held,
    /// The agent holds a plan of this or a higher number that is not this one.
    Outdated { cause: String },
    /// The agent says that the assignment itself is wrong.
    Refused { cause: String },
    /// The agent did not answer.
    Unreachable { cause: String },
}

/// The part of a plan that one agent is told. The plan must contain the agent.
pub fn assignment(plan: &Plan, agent: &AgentId) -> Assignment {
    let engine = &plan.engine;
    Assignment {
        generation: plan.generation.0,
        deployment: plan.deployment.to_string(),
        agent_id: agent.to_string(),
        model: Some(ModelSource { directory: plan.model_source.clone(), ..ModelSource::default() }),
        peers: plan
            .agents
            .iter()
            .map(|(id, planned)| Peer {
                agent_id: id.to_string(),
                address: planned.address.clone(),
            })
            .collect(),
        placement: plan
            .placement
            .iter()
            .map(|(expert, agents)| ExpertPlacement {
                layer: expert.layer,
                expert: expert.expert,
                agent_ids: agents.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        settings: Some(EngineSettings {
            context_length: engine.context_length,
            step_tokens_max: engine.step_tokens_max,
            sequences_max: engine.sequences_max,
            queue_max: engine.queue_max,
            kv_cache_bytes: engine.kv_cache_bytes,
            expert_deadline_ms: engine.expert_deadline_ms,
            kernel_path: engine.kernel_path.clone(),
        }),
    }
}

/// Gives an agent its assignment.
pub async fn assign(channel: Channel, assignment: Assignment) -> AssignOutcome {
    let mut client = AgentClient::new(channel);
    let mut last = String::new();
    for _ in 0..ASSIGN_ATTEMPTS {
        let call = client.assign(assignment.clone());
        match tokio::time::timeout(ASSIGN_DEADLINE, call).await {
            Ok(Ok(_)) => return AssignOutcome::Held,
            Ok(Err(status)) => match status.code() {
                Code::FailedPrecondition => {
                    return AssignOutcome::Outdated { cause: describe(status) };
                }
                Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => {
                    return AssignOutcome::Refused { cause: describe(status) };
                }
                _ => last = describe(status),
            },
            Err(_) => last = format!("no answer within {} s", ASSIGN_DEADLINE.as_secs()),
        }
    }
    AssignOutcome::Unreachable { cause: last }
}

/// Asks an agent to take no new sequences.
///
/// # Errors
/// The cause as text when the agent does not answer; draining is asked for again by the next reconcile.
pub async fn drain(channel: Channel) -> Result<(), String> {
    let mut client = AgentClient::new(channel);
    let call = client.drain(DrainRequest {});
    match tokio::time::timeout(ASSIGN_DEADLINE, call).await {
        Ok(answer) => answer.map(|_| ()).map_err(describe),
        Err(_) => Err(format!("no answer within {} s", ASSIGN_DEADLINE.as_secs())),
    }
}

/// An agent at this address that acknowledged this generation need not be told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// A replaced agent has a new one.
    pub address: String,
    /// The plan it holds.
    pub generation: Generation,
}
