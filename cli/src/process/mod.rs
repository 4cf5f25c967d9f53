//! The process substrate: agents and router as children of this process.
//!
//! One machine stands for several here: every agent is a host of its own, so that copies of an expert land on
//! different agents as they would on different machines.
//!
//! Children die with this process, however it dies (`PR_SET_PDEATHSIG`). The kernel ties that to the *thread*
//! that started them, so the substrate must be driven from a thread that lives as long as the process: the main
//! thread of a current-thread runtime.

mod child;
mod restart;
mod slot;

use crate::resolve::host_of;
use crate::state::{DeploymentDirectory, Running, StateError};
use planner::identity::AgentId;
use planner::inventory::{AgentFacts, AgentState, Inventory};
use planner::plan::Plan;
use restart::CRASH_LOOP_EXITS;
use slot::{Slot, SlotCondition};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use substrate::reason::Reason;
use substrate::{DeploymentStatus, Instance, Observed, Substrate, Wanted};
use tokio::sync::Notify;

/// Children listen on this machine only: there is no encryption and no key to know here.
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A verb that this machine did not do.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("start {name} from {}", executable.display())]
    Start {
        name: String,
        executable: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("open the log of {name}, {}", path.display())]
    Log {
        name: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} still runs although it was killed")]
    Undead { name: String },
}

/// What the substrate is made with.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The `boyle` executable, whose hidden `agent` and `router` commands the children are.
    pub executable: PathBuf,
    pub directory: DeploymentDirectory,
    /// Port of the HTTP API; 0 takes a free one.
    pub port: u16,
    /// Memory that one agent may use, in bytes.
    pub agent_memory_bytes: u64,
}

/// Agents and a router as child processes.
#[derive(Debug)]
pub struct ProcessSubstrate {
    config: ProcessConfig,
    agents: BTreeMap<AgentId, Agent>,
    router: Option<Slot>,
    changed: Arc<Notify>,
    shown: Option<Running>,
}

#[derive(Debug)]
struct Agent {
    slot: Slot,
    tenure: Tenure,
    age: Age,
}

/// Whether an agent runs with what is wanted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Current,
    Outdated,
}

/// Whether an agent is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tenure {
    Stays,
    Leaves,
}

impl ProcessSubstrate {
    /// Starts nothing yet.
    pub fn new(config: ProcessConfig) -> Self {
        Self {
            config,
            agents: BTreeMap::new(),
            router: None,
            changed: Arc::new(Notify::new()),
            shown: None,
        }
    }

    fn ensure_agents(&mut self, wanted: u32) -> Result<(), ProcessError> {
        let names: Vec<AgentId> = (0..wanted).map(|n| AgentId::new(format!("agent-{n}"))).collect();
        for name in &names {
            if !self.agents.contains_key(name) {
                let slot = Slot::new(name.as_str(), self.agent_arguments(name), &self.changed);
                self.agents
                    .insert(name.clone(), Agent { slot, tenure: Tenure::Stays, age: Age::Current });
            }
        }
        for (name, agent) in &mut self.agents {
            agent.tenure = if names.contains(name) { Tenure::Stays } else { Tenure::Leaves };
        }
        // A dead agent that is not wanted has nothing to hand over any more.
        self.agents.retain(|_, agent| agent.tenure == Tenure::Stays || agent.slot.is_alive());
        for agent in self.agents.values_mut() {
            if !agent.slot.is_alive() {
                agent.age = Age::Current;
            }
            agent.slot.ensure_started(&self.config)?;
        }
        Ok(())
    }

    /// Every agent that runs is to be restarted in its turn, as after a change of what agents are started with.
    pub fn outdate_agents(&mut self) {
        for agent in self.agents.values_mut() {
            agent.age = Age::Outdated;
        }
        self.changed.notify_one();
    }

    fn agent_arguments(&self, name: &AgentId) -> Vec<String> {
        let state = self.config.directory.agents().join(name.as_str());
        vec![
            "agent".to_owned(),
            format!("--agent-id={name}"),
            format!("--listen={}", SocketAddr::from((LOCALHOST, 0))),
            format!("--state-directory={}", state.display()),
        ]
    }

    fn ensure_router(&mut self) -> Result<(), ProcessError> {
        let port = self.config.port;
        let changed = &self.changed;
        let router =
            self.router.get_or_insert_with(|| Slot::new("router", router_arguments(port), changed));
        // A replaced router must keep the port that clients know.
        if let Some(address) = router.address() {
            let port = address.port();
            router.set_arguments(router_arguments(port));
        }
        router.ensure_started(&self.config)
    }

    /// Keeps `running.json` in step with the router's address.
    fn show_running(&mut self) -> Result<(), ProcessError> {
        let address = self.router.as_ref().and_then(Slot::address);
        let running =
            Running { pid: std::process::id(), port: address.map(|address| address.port()) };
        if self.shown.as_ref() != Some(&running) {
            self.config.directory.write_running(&running)?;
            self.shown = Some(running);
        }
        Ok(())
    }

    fn observe_agent(&self, name: &AgentId, agent: &Agent, observed: &mut Observed) {
        let condition = agent.slot.condition();
        match &condition {
            SlotCondition::Starting { pid } | SlotCondition::Listening { pid, .. } => {
                observed.instances.insert(name.clone(), Instance::Process { pid: *pid });
            }
            SlotCondition::Dead => {}
        }
        observed.reasons.extend(agent_reason(name, &agent.slot));
        if agent.age == Age::Outdated {
            observed.inventory.outdated.insert(name.clone());
        }
        let Some(address) = agent.slot.address() else {
            observed.starting.insert(name.clone());
            return;
        };
        let state = match (&condition, agent.tenure) {
            (SlotCondition::Listening { .. }, Tenure::Stays) => AgentState::Running,
            (SlotCondition::Listening { .. }, Tenure::Leaves) => AgentState::Leaving,
            (SlotCondition::Starting { .. } | SlotCondition::Dead, _) => AgentState::Restarting,
        };
        let facts = AgentFacts {
            host: host_of(name),
            address: address.to_string(),
            memory_bytes: self.config.agent_memory_bytes,
            state,
        };
        observed.inventory.agents.insert(name.clone(), facts);
    }
}

impl Substrate for ProcessSubstrate {
    type Error = ProcessError;

    /// One router listens on the port that clients know, whatever number is wanted.
    async fn ensure(&mut self, Wanted { agents, routers: _ }: Wanted) -> Result<(), ProcessError> {
        self.ensure_agents(agents)?;
        self.ensure_router()
    }

    async fn observe(&mut self) -> Result<Observed, ProcessError> {
        let mut observed = Observed { inventory: Inventory::default(), ..Observed::default() };
        for (name, agent) in &self.agents {
            self.observe_agent(name, agent, &mut observed);
        }
        if let Some(router) = &self.router {
            observed.reasons.extend(router_reason(router));
            if let SlotCondition::Listening { control: Some(control), .. } = router.condition() {
                observed.routers.push(control.to_string());
            }
            observed.url = router.address().map(|address| format!("http://{address}"));
        }
        self.show_running()?;
        Ok(observed)
    }

    async fn release(&mut self, agent: &AgentId) -> Result<(), ProcessError> {
        match self.agents.remove(agent) {
            Some(agent) => agent.slot.stop().await,
            None => Ok(()),
        }
    }

    async fn restart(&mut self, agent: &AgentId) -> Result<(), ProcessError> {
        // `ensure` starts the next one.
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.slot.request_restart();
        }
        Ok(())
    }

    async fn replace_lost(&mut self, agent: &AgentId) -> Result<(), ProcessError> {
        if let Some(agent) = self.agents.get(agent) {
            agent.slot.request_kill();
        }
        Ok(())
    }

    async fn recorded(&mut self) -> Result<Option<Plan>, ProcessError> {
        Ok(self.config.directory.read("plan.json")?)
    }

    async fn record(&mut self, plan: &Plan) -> Result<(), ProcessError> {
        Ok(self.config.directory.write("plan.json", plan)?)
    }

    async fn publish(&mut self, status: &DeploymentStatus) -> Result<(), ProcessError> {
        Ok(self.config.directory.write("status.json", status)?)
    }

    async fn changed(&mut self) {
        let agents = self.agents.values().map(|agent| &agent.slot);
        let next_start = agents.chain(&self.router).filter_map(Slot::next_start).min();
        match next_start {
            Some(at) => {
                // Whichever is first; both mean the same to the caller.
                let _ = tokio::time::timeout_at(at, self.changed.notified()).await;
            }
            None => self.changed.notified().await,
        }
    }

    async fn stop(&mut self) -> Result<(), ProcessError> {
        // The router first, so that no client meets an agent that is going away.
        let mut result = match self.router.take() {
            Some(router) => router.stop().await,
            None => Ok(()),
        };
        let agents = std::mem::take(&mut self.agents);
        for agent in agents.values() {
            agent.slot.request_stop();
        }
        for agent in agents.into_values() {
            result = agent.slot.stop().await.and(result);
        }
        result
    }
}

fn agent_reason(name: &AgentId, slot: &Slot) -> Option<Reason> {
    let agent = name.clone();
    let cause = unless_listening(slot)?;
    Some(match slot.next_start() {
        Some(at) if slot.restarts().exits() >= CRASH_LOOP_EXITS => Reason::AgentCrashLooping {
            agent,
            exits: slot.restarts().exits(),
            next_start_ms: Some(milliseconds_until(at)),
            cause,
        },
        Some(_) | None => Reason::AgentRestarting { agent, cause },
    })
}

fn router_reason(slot: &Slot) -> Option<Reason> {
    match (slot.condition(), slot.next_start(), slot.restarts().cause()) {
        (SlotCondition::Listening { .. }, _, _) => None,
        (_, Some(at), Some(cause)) if slot.restarts().exits() >= CRASH_LOOP_EXITS => {
            Some(Reason::RouterCrashLooping {
                exits: slot.restarts().exits(),
                next_start_ms: Some(milliseconds_until(at)),
                cause: cause.to_owned(),
            })
        }
        (_, _, _) => Some(Reason::RouterStarting),
    }
}

/// Why the predecessor died, as long as the new child does not listen.
fn unless_listening(slot: &Slot) -> Option<String> {
    match slot.condition() {
        SlotCondition::Listening { .. } => None,
        SlotCondition::Starting { .. } | SlotCondition::Dead => {
            slot.restarts().cause().map(str::to_owned)
        }
    }
}

fn milliseconds_until(at: tokio::time::Instant) -> u64 {
    let wait = at.saturating_duration_since(tokio::time::Instant::now());
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

fn router_arguments(port: u16) -> Vec<String> {
    vec![
        "router".to_owned(),
        format!("--listen={}", SocketAddr::from((LOCALHOST, port))),
        format!("--control-listen={}", SocketAddr::from((LOCALHOST, 0))),
    ]
}
