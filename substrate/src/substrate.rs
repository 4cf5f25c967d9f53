//! What differs between Kubernetes and processes on one machine.

use crate::reason::Reason;
use crate::status::DeploymentStatus;
use planner::identity::AgentId;
use planner::inventory::Inventory;
use planner::plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A place where agents and a router can be made to run.
///
/// Methods are called by one reconcile at a time. None of them decides anything: which experts go where is the
/// planner's business, and talking to agents is the reconciler's.
pub trait Substrate: Send {
    /// Why a verb could not be done; the reconcile goes on with what it has and says so in the status.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Makes that many agents and routers exist, and returns without waiting for them to be up. Dead agents
    /// are started again under their old name. Agents beyond the number are marked as leaving, not stopped; one that
    /// is wanted again stays.
    fn ensure(&mut self, wanted: Wanted) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Looks at what is there and changes nothing.
    fn observe(&mut self) -> impl Future<Output = Result<Observed, Self::Error>> + Send;

    /// Stops a leaving agent whose experts others hold by now. Called again while the agent is still observed.
    fn release(&mut self, agent: &AgentId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ends an agent in good order and starts it anew under its name with what is wanted now. Returns without
    /// waiting for either; until the new one is observed, the agent is seen as restarting.
    fn restart(&mut self, agent: &AgentId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Replaces an agent that does not answer and may or may not run, by force. Called only after every agent and
    /// router that can be reached has taken a plan without it, so that two of one name do no harm.
    fn replace_lost(
        &mut self,
        agent: &AgentId,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The plan that was recorded last, also by an earlier run.
    fn recorded(&mut self) -> impl Future<Output = Result<Option<Plan>, Self::Error>> + Send;

    /// Keeps the plan where a later run finds it; called before the plan is given to anyone.
    fn record(&mut self, plan: &Plan) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Shows the status to people.
    fn publish(
        &mut self,
        status: &DeploymentStatus,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Resolves when the next `observe` may show something new. Cancel safe.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// Stops everything that `ensure` started, and returns when it is gone.
    fn stop(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What is to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub agents: u32,
    /// `None`: routers are another reconciler's business; they are left as they are.
    pub routers: Option<u32>,
}

/// What a substrate shows of one deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Agents whose address is known, dead ones that are being replaced included. States are those that the
    /// substrate can see: running, restarting, leaving. Outdated agents are named whether they are up or not.
    pub inventory: Inventory,
    /// Agents that were asked for and have no address yet.
    pub starting: BTreeSet<AgentId>,
    /// host:port of each router's control service; routers that are going away are not among them.
    pub routers: Vec<String>,
    /// The same of routers that are going away: what they still send on needs homes.
    pub routers_ending: Vec<String>,
    /// Agents whose machine is known to be gone: they will not answer again, so waiting for them is shorter.
    pub gone: BTreeSet<AgentId>,
    /// Where clients send requests; `None` until a router listens.
    pub url: Option<String>,
    /// What each agent runs as.
    pub instances: BTreeMap<AgentId, Instance>,
    /// What the substrate itself knows to be unfinished or wrong.
    pub reasons: Vec<Reason>,
}

/// What an agent runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Instance {
    /// A process of this machine.
    Process { pid: u32 },
    /// A pod of the deployment's namespace.
    Pod { name: String },
}

impl fmt::Display for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid } => write!(formatter, "pid {pid}"),
            Self::Pod { name } => write!(formatter, "pod {name}"),
        }
    }
}
