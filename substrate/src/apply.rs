//! Plan → agents and routers. Touches the network and decides nothing.

use crate::assign::{Acknowledged, AssignOutcome, assign, assignment};
use crate::dial::Dialer;
use crate::report::Reports;
use crate::watch::describe;
use planner::identity::AgentId;
use planner::inventory::{AgentState, Inventory};
use planner::plan::{AgentRole, Plan};
use proto::v1::router_control_client::RouterControlClient;
use proto::v1::{GetRouterStatusRequest, Home, HomeRole, RouterStatus, SetHomesRequest};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// The router only swaps a list in memory; two seconds mean that it hangs.
const ROUTER_DEADLINE: Duration = Duration::from_secs(2);

/// What is kept from one application to the next.
#[derive(Debug)]
pub struct Contacts {
    dialer: Dialer,
    /// Who has acknowledged what.
    acknowledged: BTreeMap<AgentId, Acknowledged>,
    /// Connections to the routers' control services, by address.
    routers: BTreeMap<String, Channel>,
}

/// A plan that was given to everyone who could be reached. Only [`apply`] makes one, so a status cannot be
/// derived from a plan that was never applied.
#[derive(Debug)]
pub struct Applied {
    plan: Plan,
    agents: BTreeMap<AgentId, AssignOutcome>,
    routers: BTreeMap<String, RouterOutcome>,
}

impl Applied {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What became of each running agent's assignment.
    pub fn agents(&self) -> &BTreeMap<AgentId, AssignOutcome> {
        &self.agents
    }

    /// What became of each router's homes, by the control service's address.
    pub fn routers(&self) -> &BTreeMap<String, RouterOutcome> {
        &self.routers
    }
}

/// What a router answered.
#[derive(Clone, Debug, PartialEq)]
pub enum RouterOutcome {
    /// It holds the homes; its own view follows.
    Holds(RouterStatus),
    /// It holds a newer generation's homes.
    Outdated { cause: String },
    /// It did not answer, or refused.
    Failed { cause: String },
}

/// Everything that one application needs.
#[derive(Debug)]
pub struct Application<'a> {
    pub plan: Plan,
    pub inventory: &'a Inventory,
    pub reports: &'a Reports,
    /// host:port of the routers' control services.
    pub routers: &'a [String],
}

/// Assigns every running agent that does not hold the plan yet, then gives the routers its homes.
pub async fn apply(work: Application<'_>, contacts: &mut Contacts) -> Applied {
    let Application { plan, inventory, reports, routers } = work;
    let acknowledged = &mut contacts.acknowledged;
    acknowledged.retain(|agent, _| plan.agents.contains_key(agent));
    let mut agents = BTreeMap::new();
    let mut calls = JoinSet::new();
    for (agent, planned) in &plan.agents {
        if inventory.agents.get(agent).is_none_or(|facts| facts.state == AgentState::Restarting) {
            continue;
        }
        let wanted = Acknowledged { address: planned.address.clone(), generation: plan.generation };
        if acknowledged.get(agent) == Some(&wanted) && !has_forgotten(reports, agent, &plan) {
            agents.insert(agent.clone(), AssignOutcome::Held);
            continue;
        }
        let message = assignment(&plan, agent);
        let agent = agent.clone();
        let channel = contacts.dialer.agent(&wanted.address);
        calls.spawn(async move {
            let outcome = match channel {
                Ok(channel) => assign(channel, message).await,
                Err(error) => AssignOutcome::Refused { cause: error.to_string() },
            };
            (agent, wanted, outcome)
        });
    }
    while let Some(joined) = calls.join_next().await {
        let Ok((agent, wanted, outcome)) = joined else { continue };
        match &outcome {
            AssignOutcome::Held => {
                acknowledged.insert(agent.clone(), wanted);
            }
            AssignOutcome::Outdated { .. }
            | AssignOutcome::Refused { .. }
            | AssignOutcome::Unreachable { .. } => {
                acknowledged.remove(&agent);
            }
        }
        agents.insert(agent, outcome);
    }
    let routers = contacts.set_homes_of_all(&plan, routers).await;
    Applied { plan, agents, routers }
}

/// The agent reports another generation than it acknowledged: its process was replaced behind one address.
fn has_forgotten(reports: &Reports, agent: &AgentId, plan: &Plan) -> bool {
    reports
        .get(agent)
        .and_then(|report| report.status())
        .is_some_and(|status| status.generation < plan.generation.0)
}

impl Contacts {
    /// Nobody was told anything yet.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, acknowledged: BTreeMap::new(), routers: BTreeMap::new() }
    }

    /// How agents and routers are reached.
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    async fn set_homes_of_all(
        &mut self,
        plan: &Plan,
        routers: &[String],
    ) -> BTreeMap<String, RouterOutcome> {
        self.routers.retain(|address, _| routers.contains(address));
        let request = homes(plan);
        let mut outcomes = BTreeMap::new();
        for address in routers {
            let outcome = match self.router(address) {
                Ok(channel) => set_homes(channel, request.clone()).await,
                Err(error) => RouterOutcome::Failed { cause: error.to_string() },
            };
            outcomes.insert(address.clone(), outcome);
        }
        outcomes
    }

    fn router(&mut self, address: &str) -> Result<Channel, tonic::transport::Error> {
        if let Some(known) = self.routers.get(address) {
            return Ok(known.clone());
        }
        let channel = self.dialer.router(address)?;
        self.routers.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// The homes of a plan as the routers are told. Which of them are up is the routers' own observation.
pub fn homes(plan: &Plan) -> SetHomesRequest {
    let homes = plan
        .agents
        .iter()
        .filter(|(_, planned)| planned.role == AgentRole::Home)
        .map(|(agent, planned)| Home {
            agent_id: agent.to_string(),
            address: planned.address.clone(),
            role: HomeRole::Open.into(),
            fingerprint: String::new(),
        })
        .collect();
    SetHomesRequest { generation: plan.generation.0, model: plan.deployment.to_string(), homes }
}

async fn set_homes(channel: Channel, request: SetHomesRequest) -> RouterOutcome {
    let mut client = RouterControlClient::new(channel);
    let calls = async {
        client.set_homes(request).await?;
        client.get_router_status(GetRouterStatusRequest {}).await
    };
    match tokio::time::timeout(ROUTER_DEADLINE, calls).await {
        Ok(Ok(answer)) => RouterOutcome::Holds(answer.into_inner()),
        Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
            RouterOutcome::Outdated { cause: describe(status) }
        }
        Ok(Err(status)) => RouterOutcome::Failed { cause: describe(status) },
        Err(_) => RouterOutcome::Failed {
            cause: format!("no answer within {} s", ROUTER_DEADLINE.as_secs()),
        },
    }
}
