//! Asking agents to take no new sequences, without waiting for the answer: their status shows it.

use crate::assign::ASSIGN_DEADLINE;
use crate::dial::Dialer;
use crate::watch::describe;
use planner::identity::AgentId;
use proto::v1::DrainRequest;
use proto::v1::agent_client::AgentClient;
use std::collections::BTreeMap;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Calls under way, at most one for each agent.
#[derive(Debug)]
pub struct Drains {
    dialer: Dialer,
    calls: BTreeMap<AgentId, JoinHandle<()>>,
}

impl Drains {
    /// Nobody was asked yet.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, calls: BTreeMap::new() }
    }

    /// Asks an agent, unless a call to it is still under way. Asked again by a later round while it does not drain.
    pub fn ask(&mut self, agent: &AgentId, address: &str) {
        self.calls.retain(|_, call| !call.is_finished());
        if self.calls.contains_key(agent) {
            return;
        }
        let name = agent.clone();
        let channel = self.dialer.agent(address);
        let call = tokio::spawn(async move {
            let drained = match channel {
                Ok(channel) => drain(channel).await,
                Err(error) => Err(error.to_string()),
            };
            if let Err(cause) = drained {
                tracing::warn!(agent = %name, cause, "the agent does not drain");
            }
        });
        self.calls.insert(agent.clone(), call);
    }
}

impl Drop for Drains {
    fn drop(&mut self) {
        for call in self.calls.values() {
            call.abort();
        }
    }
}

async fn drain(channel: Channel) -> Result<(), String> {
    let mut client = AgentClient::new(channel);
    let call = client.drain(DrainRequest {});
    match tokio::time::timeout(ASSIGN_DEADLINE, call).await {
        Ok(answer) => answer.map(|_| ()).map_err(describe),
        Err(_) => Err(format!("no answer within {} s", ASSIGN_DEADLINE.as_secs())),
    }
}
