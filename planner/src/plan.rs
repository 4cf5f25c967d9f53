//! A plan: everything one generation of a deployment needs. Complete, immutable, numbered.

use crate::identity::{AgentId, DeploymentName, ExpertId, Generation, HostId};
use crate::inventory::{AgentFacts, AgentState, Inventory};
use crate::place::{self, Candidate, PlacementTask};
use crate::prefer;
use crate::room::{Room, kept_settings, room_together, rooms};
use crate::spec::{EngineSettings, ModelFacts, ModelSource, ServingSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One generation of a deployment; applying it takes no further choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub generation: Generation,
    /// The generation it was made from; `None` for the first.
    pub parent: Option<Generation>,
    pub deployment: DeploymentName,
    pub source: ModelSource,
    /// What the plan was made for; a later planner takes it up from here.
    pub facts: ModelFacts,
    pub agents: BTreeMap<AgentId, PlannedAgent>,
    /// For every routed expert, the agents that hold a copy, in order of preference.
    #[serde(with = "placement_as_list")]
    pub placement: BTreeMap<ExpertId, Vec<AgentId>>,
    /// Settings of every agent that does not keep older ones.
    pub engine: EngineSettings,
}

impl Plan {
    /// Hash of everything but the numbers, as sixteen hexadecimal digits: equal for plans that give everyone the same.
    pub fn hash(&self) -> String {
        let nameless = Self { generation: Generation(0), parent: None, ..self.clone() };
        let mut hash = Fnv(FNV_OFFSET);
        // Our own writer cannot fail.
        let _ = write!(hash, "{nameless:?}");
        format!("{:016x}", hash.0)
    }

    /// The settings that an agent of the plan is told.
    pub fn settings_of(&self, agent: &AgentId) -> &EngineSettings {
        self.agents.get(agent).and_then(|planned| planned.keeps.as_ref()).unwrap_or(&self.engine)
    }
}

/// One agent's place in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedAgent {
    pub host: HostId,
    pub address: String,
    pub role: AgentRole,
    /// Older settings that its process runs with until it is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<EngineSettings>,
}

/// Whether the router may send new sequences to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentRole {
    /// Home of sequences and holder of experts.
    Home,
    /// Holder of experts only, because it is draining, restarting or leaving.
    ExpertsOnly,
}

/// A plan and what it had to leave undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub plan: Plan,
    pub waiting: Vec<WaitingOn>,
}

/// Why a plan falls short of its specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitingOn {
    #[error("{have} of at least {want} agents are there")]
    Agents { have: u32, want: u32 },
    #[error(
        "{planned} of {asked} copies of each expert: {agents} agents have room for {room} experts in all; add agents or memory, or ask for fewer copies"
    )]
    RoomForCopies { asked: u32, planned: u32, agents: u32, room: u64 },
    #[error("copies share a host: {hosts} hosts for {copies} copies")]
    Hosts { hosts: u32, copies: u32 },
    #[error(
        "{experts} experts have copies that share a host, for no agent of another host has room"
    )]
    SharedHosts { experts: u32 },
    #[error("{experts} experts have fewer than {copies} copies, for no other agent has room")]
    CrowdedExperts { experts: u32, copies: u32 },
}

/// No plan can serve this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("no agent is there to plan for; start at least one")]
    NoAgents,
    #[error(
        "{needed} experts must be held and there is room for {available}; {arithmetic}; add agents or memory"
    )]
    DoesNotFit { needed: u64, available: u64, arithmetic: String },
}

/// Plans the next generation.
///
/// Every expert gets `copies` agents on different hosts where there are enough; agents keep what they hold
/// unless balance by count demands a move. An inventory that changes nothing returns `previous` as it is.
///
/// # Errors
/// [`PlanError`] when there is no agent, or not even one copy of every expert fits.
pub fn plan(
    spec: &ServingSpec,
    inventory: &Inventory,
    previous: Option<&Plan>,
) -> Result<Planned, PlanError> {
    let rooms = rooms(spec, inventory, previous);
    let mut waiting = Vec::new();
    let copies = copies_that_fit(spec, &rooms, &mut waiting)?;
    let experts = experts(&spec.model);
    let task = PlacementTask {
        copies,
        candidates: candidates(&rooms, inventory),
        load: expert_loads(inventory, &experts),
        held: previous.map(|plan| plan.placement.clone()).unwrap_or_default(),
    };
    let placed = place::place(&task);
    note_shortfalls(&task, &placed, &mut waiting);
    let held = &task.held;
    let mut placement = prefer::order(&placed, held);
    keep_leavers(&mut placement, held, inventory);
    let draft = Plan {
        generation: Generation(1),
        parent: None,
        deployment: spec.name.clone(),
        source: spec.source.clone(),
        facts: spec.model.clone(),
        agents: planned_agents(spec, inventory, previous),
        placement,
        engine: spec.engine.clone(),
    };
    Ok(Planned { plan: number(draft, previous), waiting })
}

fn experts(model: &ModelFacts) -> Vec<ExpertId> {
    let of_layer = |layer: &u32| {
        let layer = *layer;
        (0..model.experts_per_layer).map(move |expert| ExpertId { layer, expert })
    };
    model.moe_layers.iter().flat_map(of_layer).collect()
}

/// The most copies, up to the specification's, that the agents' number and memory allow.
fn copies_that_fit(
    spec: &ServingSpec,
    rooms: &BTreeMap<AgentId, Room>,
    waiting: &mut Vec<WaitingOn>,
) -> Result<u32, PlanError> {
    let agents = u32::try_from(rooms.len()).unwrap_or(u32::MAX);
    if agents == 0 {
        return Err(PlanError::NoAgents);
    }
    if agents < spec.agents {
        waiting.push(WaitingOn::Agents { have: agents, want: spec.agents });
    }
    let experts = spec.model.experts();
    let room = room_together(rooms, experts);
    if room < experts || rooms.values().any(|room| room.experts.is_none()) {
        let arithmetic = arithmetic(rooms);
        return Err(PlanError::DoesNotFit { needed: experts, available: room, arithmetic });
    }
    let asked = spec.copies.get();
    let by_memory = room.checked_div(experts).unwrap_or(u64::from(asked));
    let planned = asked.min(agents).min(u32::try_from(by_memory).unwrap_or(u32::MAX));
    if planned < asked {
        waiting.push(WaitingOn::RoomForCopies { asked, planned, agents, room });
    }
    Ok(planned)
}

fn arithmetic(rooms: &BTreeMap<AgentId, Room>) -> String {
    let mut text = String::new();
    for (agent, room) in rooms {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{agent}: {room}");
    }
    text
}

fn candidates(rooms: &BTreeMap<AgentId, Room>, inventory: &Inventory) -> Vec<Candidate> {
    let candidate = |(agent, room): (&AgentId, &Room)| {
        let host = inventory.agents.get(agent)?.host.clone();
        Some(Candidate { agent: agent.clone(), host, experts_max: room.experts.unwrap_or(0) })
    };
    rooms.iter().filter_map(candidate).collect()
}

/// Measured rows of every expert; experts without a measurement count as the mean of the others.
fn expert_loads(inventory: &Inventory, experts: &[ExpertId]) -> BTreeMap<ExpertId, u64> {
    let measured = &inventory.expert_load;
    let sum: u128 = measured.values().map(|rows| u128::from(*rows)).sum();
    let mean = sum.checked_div(measured.len() as u128).unwrap_or(1);
    let mean = u64::try_from(mean).unwrap_or(u64::MAX);
    let load = |expert: &ExpertId| (*expert, measured.get(expert).copied().unwrap_or(mean));
    experts.iter().map(load).collect()
}

fn note_shortfalls(
    task: &PlacementTask,
    placed: &BTreeMap<ExpertId, Vec<AgentId>>,
    waiting: &mut Vec<WaitingOn>,
) {
    let copies = task.copies;
    let hosts = u32::try_from(task.host_count()).unwrap_or(u32::MAX);
    if hosts < copies {
        waiting.push(WaitingOn::Hosts { hosts, copies });
    }
    let on_shared_hosts = |holders: &&Vec<AgentId>| task.hosts_of(holders).len() < holders.len();
    let sharing = placed.values().filter(on_shared_hosts).count();
    if hosts >= copies && sharing > 0 {
        let experts = u32::try_from(sharing).unwrap_or(u32::MAX);
        waiting.push(WaitingOn::SharedHosts { experts });
    }
    let crowded = placed.values().filter(|holders| holders.len() < copies as usize).count();
    if crowded > 0 {
        let experts = u32::try_from(crowded).unwrap_or(u32::MAX);
        waiting.push(WaitingOn::CrowdedExperts { experts, copies });
    }
}

/// A leaving agent stays the last choice for what it held, until its substrate takes it from the inventory.
fn keep_leavers(
    placement: &mut BTreeMap<ExpertId, Vec<AgentId>>,
    held: &BTreeMap<ExpertId, Vec<AgentId>>,
    inventory: &Inventory,
) {
    for (expert, holders) in placement {
        let previous = held.get(expert).into_iter().flatten();
        let leaving = previous.filter(|agent| {
            inventory.agents.get(agent).is_some_and(|facts| facts.state == AgentState::Leaving)
        });
        holders.extend(leaving.cloned());
    }
}

fn planned_agents(
    spec: &ServingSpec,
    inventory: &Inventory,
    previous: Option<&Plan>,
) -> BTreeMap<AgentId, PlannedAgent> {
    let planned = |(agent, facts): (&AgentId, &AgentFacts)| {
        let role = match facts.state {
            AgentState::Running => AgentRole::Home,
            AgentState::Draining | AgentState::Restarting | AgentState::Leaving => {
                AgentRole::ExpertsOnly
            }
            AgentState::Lost => return None,
        };
        let keeps = kept_settings(spec, inventory, previous, agent);
        let (host, address) = (facts.host.clone(), facts.address.clone());
        Some((agent.clone(), PlannedAgent { host, address, role, keeps }))
    };
    inventory.agents.iter().filter_map(planned).collect()
}

/// Gives the draft its number, or returns the previous plan when nothing else differs.
fn number(draft: Plan, previous: Option<&Plan>) -> Plan {
    let Some(previous) = previous else { return draft };
    let same = Plan { generation: previous.generation, parent: previous.parent, ..draft };
    if &same == previous {
        return same;
    }
    let generation = Generation(previous.generation.0.saturating_add(1));
    Plan { generation, parent: Some(previous.generation), ..same }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a over written text: the same on every machine, unlike the standard library's hasher.
struct Fnv(u64);

impl std::fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        Ok(())
    }
}

/// JSON has no keys but text, so the placement is written as a list.
mod placement_as_list {
    use super::{AgentId, BTreeMap, ExpertId};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Entry<Agents> {
        layer: u32,
        expert: u32,
        agents: Agents,
    }

    pub fn serialize<S: Serializer>(
        placement: &BTreeMap<ExpertId, Vec<AgentId>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let entry = |(id, agents): (&ExpertId, _)| {
            let ExpertId { layer, expert } = *id;
            Entry { layer, expert, agents }
        };
        serializer.collect_seq(placement.iter().map(entry))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ExpertId, Vec<AgentId>>, D::Error> {
        let entries = Vec::<Entry<Vec<AgentId>>>::deserialize(deserializer)?;
        let pair = |entry: Entry<Vec<AgentId>>| {
            (ExpertId { layer: entry.layer, expert: entry.expert }, entry.agents)
        };
        Ok(entries.into_iter().map(pair).collect())
    }
}
