//! Plan → agents. Touches the network and decides nothing.

use crate::assign::{Acknowledged, AssignOutcome, assign, assignment};
use crate::dial::Dialer;
use crate::report::{Report, Reports};
use crate::routers::{Homes, RouterWords};
use planner::identity::AgentId;
use planner::inventory::{AgentState, Inventory};
use planner::plan::{AgentRole, Plan};
use proto::v1::{Home, HomeRole};
use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// What is kept from one application to the next.
#[derive(Debug)]
pub struct Contacts {
    dialer: Dialer,
    /// Who has acknowledged what.
    acknowledged: BTreeMap<AgentId, Acknowledged>,
}

impl Contacts {
    /// Nobody was told anything yet.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, acknowledged: BTreeMap::new() }
    }
}

/// A plan that was given to everyone who could be reached. Only [`apply`] makes one, so a status cannot be
/// derived from a plan that was never applied.
#[derive(Debug)]
pub struct Applied {
    plan: Plan,
    agents: BTreeMap<AgentId, AssignOutcome>,
    routers: RouterWords,
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

    /// What each router said last, by the control service's address.
    pub fn routers(&self) -> &RouterWords {
        &self.routers
    }

    /// Agents that only a restart brings to what the plan says.
    pub fn needing_restart(&self) -> BTreeMap<AgentId, String> {
        let refused = self.agents.iter().filter_map(|(agent, outcome)| match outcome {
            AssignOutcome::NeedsRestart { cause } => Some((agent.clone(), cause.clone())),
            AssignOutcome::Held
            | AssignOutcome::Outdated { .. }
            | AssignOutcome::Refused { .. }
            | AssignOutcome::Unreachable { .. } => None,
        });
        refused.collect()
    }

    /// Whether every agent of the plan that answers has taken it.
    pub fn is_acknowledged(&self, reports: &Reports) -> bool {
        let answering =
            self.plan.agents.keys().filter(|agent| {
                reports.get(*agent).is_some_and(|report| report.status().is_some())
            });
        let mut outcomes = answering.map(|agent| self.agents.get(agent));
        outcomes.all(|outcome| outcome == Some(&AssignOutcome::Held))
    }
}

/// Everything that one application needs.
#[derive(Debug)]
pub struct Application<'a> {
    pub plan: Plan,
    pub inventory: &'a Inventory,
    pub reports: &'a Reports,
    /// What routers said last.
    pub routers: RouterWords,
}

/// Assigns every running agent that does not hold the plan yet.
pub async fn apply(work: Application<'_>, contacts: &mut Contacts) -> Applied {
    let Application { plan, inventory, reports, routers } = work;
    let acknowledged = &mut contacts.acknowledged;
    acknowledged.retain(|agent, _| plan.agents.contains_key(agent));
    let mut agents = BTreeMap::new();
    let mut calls = JoinSet::new();
    for (agent, planned) in &plan.agents {
        if !is_there(inventory, agent, &planned.address) {
            continue;
        }
        // Whoever is silent already would only make the others wait.
        if let Some(Report::Silent { cause }) = reports.get(agent) {
            acknowledged.remove(agent);
            let cause = cause.clone();
            agents.insert(agent.clone(), AssignOutcome::Unreachable { cause });
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
            AssignOutcome::NeedsRestart { .. }
            | AssignOutcome::Outdated { .. }
            | AssignOutcome::Refused { .. }
            | AssignOutcome::Unreachable { .. } => {
                acknowledged.remove(&agent);
            }
        }
        agents.insert(agent, outcome);
    }
    Applied { plan, agents, routers }
}

/// It runs where the plan says; one that is being replaced is told when it is back.
fn is_there(inventory: &Inventory, agent: &AgentId, address: &str) -> bool {
    inventory.agents.get(agent).is_some_and(|facts| {
        facts.address == address
            && match facts.state {
                AgentState::Running | AgentState::Draining | AgentState::Leaving => true,
                AgentState::Restarting | AgentState::Lost => false,
            }
    })
}

/// The agent reports another generation than it acknowledged: its process was replaced behind one address.
fn has_forgotten(reports: &Reports, agent: &AgentId, plan: &Plan) -> bool {
    reports
        .get(agent)
        .and_then(|report| report.status())
        .is_some_and(|status| status.generation < plan.generation.0)
}

/// The homes of a plan as routers are told. Which of them are up is the routers' own observation.
pub fn homes(plan: &Plan) -> Homes {
    let homes = plan.agents.iter().filter(|(_, planned)| planned.role == AgentRole::Home);
    let homes = homes.map(|(agent, planned)| Home {
        agent_id: agent.to_string(),
        address: planned.address.clone(),
        role: HomeRole::Open.into(),
        fingerprint: plan.facts.fingerprint.clone(),
    });
    Homes { model: plan.deployment.to_string(), homes: homes.collect() }
}

/// All agents of a plan as homes that only end what they began: those that drain may still have sequences to give.
pub fn resuming_homes(plan: &Plan) -> Vec<Home> {
    let Homes { homes, .. } = homes(plan);
    homes.into_iter().map(|home| Home { role: HomeRole::Resume.into(), ..home }).collect()
}
