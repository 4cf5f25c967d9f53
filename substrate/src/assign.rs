//! Plan → what one agent is told, and telling it.

use crate::watch::describe;
use planner::identity::{AgentId, Generation};
use planner::plan::Plan;
use proto::refusal::{ASSIGN_REFUSAL, NEEDS_RESTART, WRONG_MODEL};
use proto::v1::agent_client::AgentClient;
use proto::v1::{Assignment, EngineSettings, ExpertPlacement, ModelSource, Peer};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

/// Recording an assignment is one small file write on the agent; two seconds mean that it hangs.
pub(crate) const ASSIGN_DEADLINE: Duration = Duration::from_secs(2);

/// What became of one agent's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssignOutcome {
    /// The agent has recorded it.
    Held,
    /// The agent has recorded it, and only a new process can do what it says.
    NeedsRestart { cause: String },
    /// The agent holds a plan of this or a higher number that is not this one.
    Outdated { cause: String },
    /// The agent says that the assignment itself is wrong.
    Refused { cause: String },
    /// The agent did not answer.
    Unreachable { cause: String },
}

/// The part of a plan that one agent is told. The plan must contain the agent.
pub fn assignment(plan: &Plan, agent: &AgentId) -> Assignment {
    let engine = plan.settings_of(agent);
    Assignment {
        generation: plan.generation.0,
        deployment: plan.deployment.to_string(),
        agent_id: agent.to_string(),
        model: Some(model_source(plan)),
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
            draft_tokens_max: engine.draft_tokens_max,
        }),
    }
}

fn model_source(plan: &Plan) -> ModelSource {
    let fingerprint = plan.facts.fingerprint.clone();
    match &plan.source {
        planner::spec::ModelSource::Directory(directory) => {
            ModelSource { directory: directory.clone(), fingerprint, ..ModelSource::default() }
        }
        planner::spec::ModelSource::Remote { uri, revision } => ModelSource {
            directory: String::new(),
            uri: uri.clone(),
            revision: revision.clone(),
            fingerprint,
        },
    }
}

/// Gives an agent its assignment.
pub async fn assign(channel: Channel, assignment: Assignment) -> AssignOutcome {
    let mut client = AgentClient::new(channel);
    // One try: the next reconcile makes another, and nobody waits for an agent that hangs meanwhile.
    match tokio::time::timeout(ASSIGN_DEADLINE, client.assign(assignment)).await {
        Ok(Ok(_)) => AssignOutcome::Held,
        Ok(Err(status)) => match status.code() {
            Code::FailedPrecondition if is_refused_for(&status, NEEDS_RESTART) => {
                AssignOutcome::NeedsRestart { cause: describe(status) }
            }
            Code::FailedPrecondition if is_refused_for(&status, WRONG_MODEL) => {
                AssignOutcome::Refused { cause: describe(status) }
            }
            Code::FailedPrecondition => AssignOutcome::Outdated { cause: describe(status) },
            Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => {
                AssignOutcome::Refused { cause: describe(status) }
            }
            _ => AssignOutcome::Unreachable { cause: describe(status) },
        },
        Err(_) => AssignOutcome::Unreachable {
            cause: format!("no answer within {} s", ASSIGN_DEADLINE.as_secs()),
        },
    }
}

fn is_refused_for(status: &tonic::Status, kind: &str) -> bool {
    status.metadata().get(ASSIGN_REFUSAL).is_some_and(|refusal| refusal == kind)
}

/// An agent at this address that acknowledged this generation need not be told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// A replaced agent has a new one.
    pub address: String,
    /// The plan it holds.
    pub generation: Generation,
}
