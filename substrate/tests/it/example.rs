//! A small deployment for tests.

use planner::engine::EngineRequest;
use planner::identity::{AgentId, DeploymentName, HostId};
use planner::inventory::{AgentFacts, AgentState, Inventory};
use planner::plan::{Plan, plan};
use planner::spec::{
    EngineSettings, FactsFrom, Goal, ModelFacts, ModelSource, ReplicaRange, Scaling, ServingSpec,
};
use std::num::NonZeroU32;

pub fn spec(agents: u32, copies: u32) -> ServingSpec {
    ServingSpec {
        name: DeploymentName::new("small"),
        source: ModelSource::Directory("/models/small".to_owned()),
        model: facts(),
        agents,
        copies: NonZeroU32::new(copies).unwrap(),
        engine: EngineSettings {
            context_length: 512,
            step_tokens_max: 64,
            sequences_max: 8,
            queue_max: 16,
            kv_cache_bytes: 50,
            expert_deadline_ms: 500,
            kernel_path: "portable".to_owned(),
            draft_tokens_max: 2,
        },
    }
}

pub fn facts() -> ModelFacts {
    ModelFacts {
        fingerprint: "small-1".to_owned(),
        moe_layers: vec![1, 2],
        experts_per_layer: 4,
        dense_bytes: 100,
        expert_bytes: 10,
        context_length_max: 512,
        cache_token_bytes: 1,
        ..ModelFacts::default()
    }
}

pub fn goal(agents: u32, copies: u32) -> Goal {
    Goal {
        name: DeploymentName::new("small"),
        source: ModelSource::Directory("/models/small".to_owned()),
        facts: FactsFrom::Caller(Box::new(facts())),
        agents: ReplicaRange::exactly(agents),
        routers: ReplicaRange::exactly(1),
        copies: NonZeroU32::new(copies).unwrap(),
        engine: EngineRequest::default(),
        scaling: Scaling::default(),
        price: None,
    }
}

pub fn agent(n: u32) -> AgentId {
    AgentId::new(format!("agent-{n}"))
}

pub fn inventory(agents: u32) -> Inventory {
    let facts = |n: u32| AgentFacts {
        host: HostId::new(format!("host-{n}")),
        address: format!("127.0.0.1:{}", 7000 + n),
        memory_bytes: 1000,
        state: AgentState::Running,
    };
    let agents = (0..agents).map(|n| (agent(n), facts(n))).collect();
    Inventory { agents, ..Inventory::default() }
}

pub fn planned(agents: u32, copies: u32) -> Plan {
    plan(&spec(agents, copies), &inventory(agents), None).unwrap().plan
}
