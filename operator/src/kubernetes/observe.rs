//! Pods and nodes → the planner's inventory. Pure.

use super::replicas::{Replicas, Tenure};
use crate::render::{AGENT_PORT, ROUTER_CONTROL_PORT, Revision};
use crate::watch::node::{NodeFacts, NodeHealth};
use crate::watch::pod::{Component, PodFacts, Stage, Trouble};
use planner::identity::{AgentId, HostId};
use planner::inventory::{AgentFacts, AgentState};
use std::collections::BTreeMap;
use std::sync::Arc;
use substrate::reason::Reason;
use substrate::{Instance, Observed};

/// Where an agent was last seen; a pod that is being replaced keeps its place in the plan with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    pub host: HostId,
    pub address: String,
}

/// Nodes by name.
pub type Nodes = BTreeMap<String, Arc<NodeFacts>>;

/// What an observation reads.
#[derive(Debug)]
pub struct Scene<'a> {
    pub replicas: &'a Replicas,
    pub pods: &'a BTreeMap<String, Arc<PodFacts>>,
    pub nodes: &'a Nodes,
    pub revision: &'a Revision,
}

/// Fills in everything about the agents, and remembers where they are.
pub fn agents(
    scene: &Scene<'_>,
    last_seen: &mut BTreeMap<AgentId, LastSeen>,
    observed: &mut Observed,
) {
    for (agent, tenure) in scene.replicas.agents() {
        let pod = scene.pods.get(agent.as_str());
        if let Some(pod) = pod {
            observed.instances.insert(agent.clone(), Instance::Pod { name: agent.to_string() });
            observed.reasons.extend(agent_reason(&agent, pod));
            if pod.revision != scene.revision.as_str() {
                observed.inventory.outdated.insert(agent.clone());
            }
            if is_gone(scene.nodes, pod) {
                observed.gone.insert(agent.clone());
            }
            if let Some(seen) = seen(pod) {
                last_seen.insert(agent.clone(), seen);
            }
        }
        let Some(LastSeen { host, address }) = last_seen.get(&agent).cloned() else {
            observed.starting.insert(agent);
            continue;
        };
        let facts = AgentFacts {
            host,
            address,
            memory_bytes: pod.map_or(0, |pod| memory_bytes(scene, pod)),
            state: state(pod.map(AsRef::as_ref), tenure),
        };
        observed.inventory.agents.insert(agent, facts);
    }
    last_seen.retain(|agent, _| scene.replicas.agents().any(|(known, _)| known == *agent));
}

/// Fills in the routers that can be told their homes. Those of lost machines are not among them.
pub fn routers(pods: &BTreeMap<String, Arc<PodFacts>>, nodes: &Nodes, observed: &mut Observed) {
    let routers = pods.values().filter(|pod| pod.component == Component::Router);
    for pod in routers.filter(|pod| !is_gone(nodes, pod)) {
        let control = pod.address.as_ref().map(|it| format!("{it}:{ROUTER_CONTROL_PORT}"));
        match (control, pod.stage) {
            (Some(control), Stage::Running | Stage::Ready) => observed.routers.push(control),
            (Some(control), Stage::Ending) => observed.routers_ending.push(control),
            (Some(_), Stage::Waiting | Stage::Ended) | (None, _) => {}
        }
        if let Some(Trouble::Crashes { exits, cause, .. }) = &pod.trouble {
            observed.reasons.push(Reason::RouterCrashLooping {
                exits: *exits,
                next_start_ms: None,
                cause: cause.clone(),
            });
        }
    }
    if observed.routers.is_empty() {
        observed.reasons.push(Reason::RouterStarting);
    }
}

/// Whether the pod's machine is known to be gone.
pub fn is_gone(nodes: &Nodes, pod: &PodFacts) -> bool {
    let Some(node) = &pod.node else { return false };
    match nodes.get(node) {
        Some(node) => node.health == NodeHealth::NotReady,
        // Without any node in sight the operator may not see them; one missing among others is gone.
        None => !nodes.is_empty(),
    }
}

fn seen(pod: &PodFacts) -> Option<LastSeen> {
    let host = HostId::new(pod.node.clone()?);
    let address = format!("{}:{AGENT_PORT}", pod.address.as_ref()?);
    Some(LastSeen { host, address })
}

fn state(pod: Option<&PodFacts>, tenure: Tenure) -> AgentState {
    let Some(pod) = pod else { return AgentState::Restarting };
    match (pod.stage, tenure) {
        (Stage::Running | Stage::Ready, Tenure::Stays) => AgentState::Running,
        (Stage::Running | Stage::Ready, Tenure::Leaves) => AgentState::Leaving,
        (Stage::Waiting | Stage::Ending | Stage::Ended, _) => AgentState::Restarting,
    }
}

/// Boyle's own limit, or the node's share of an agent; 0 when only the agent itself knows.
fn memory_bytes(scene: &Scene<'_>, pod: &PodFacts) -> u64 {
    if let Some(limit) = pod.memory_limit_bytes {
        return limit;
    }
    let node = pod.node.as_ref().and_then(|node| scene.nodes.get(node));
    let Some(memory) = node.and_then(|node| node.memory_bytes) else { return 0 };
    let neighbours = scene
        .pods
        .values()
        .filter(|other| other.component == Component::Agent && other.node == pod.node)
        .count();
    memory / u64::try_from(neighbours.max(1)).unwrap_or(1)
}

fn agent_reason(agent: &AgentId, pod: &PodFacts) -> Option<Reason> {
    let agent = agent.clone();
    match pod.trouble.as_ref()? {
        Trouble::Crashes { exits, cause, .. } => Some(Reason::AgentCrashLooping {
            agent,
            exits: *exits,
            next_start_ms: None,
            cause: cause.clone(),
        }),
        Trouble::Unschedulable { message } => {
            Some(Reason::AgentUnschedulable { agent, cause: message.clone() })
        }
        Trouble::Image { image, message } => {
            let cause = format!("image {image} cannot be pulled: {message}");
            Some(Reason::AgentUnstartable { agent, cause })
        }
        Trouble::Configuration { message } => {
            Some(Reason::AgentUnstartable { agent, cause: message.clone() })
        }
    }
}
