//! A plan as agents and routers are told.

use crate::example::{agent, planned};
use planner::plan::AgentRole;
use substrate::apply::homes;
use substrate::assign::assignment;

#[test]
fn an_assignment_is_the_whole_plan_for_one_agent() {
    let plan = planned(3, 2);
    let told = assignment(&plan, &agent(2));
    assert_eq!((told.generation, told.deployment.as_str()), (plan.generation.0, "small"));
    assert_eq!(told.agent_id, "agent-2");
    let model = told.model.unwrap();
    assert_eq!(
        (model.directory.as_str(), model.fingerprint.as_str()),
        ("/models/small", "small-1")
    );
    let peers: Vec<_> = told.peers.iter().map(|peer| peer.address.as_str()).collect();
    assert_eq!(peers, ["127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7002"]);
    assert_eq!(told.placement.len(), 8);
    for entry in &told.placement {
        let key = planner::identity::ExpertId { layer: entry.layer, expert: entry.expert };
        let holders: Vec<_> = plan.placement[&key].iter().map(ToString::to_string).collect();
        assert_eq!(entry.agent_ids, holders, "in order of preference");
    }
    let settings = told.settings.unwrap();
    assert_eq!((settings.context_length, settings.step_tokens_max), (512, 64));
    assert_eq!((settings.sequences_max, settings.queue_max), (8, 16));
    assert_eq!((settings.kv_cache_bytes, settings.expert_deadline_ms), (50, 500));
    assert_eq!(settings.kernel_path, "portable");
    assert_eq!(settings.draft_tokens_max, 2);
}

#[test]
fn only_homes_are_told_to_routers() {
    let mut plan = planned(3, 2);
    plan.agents.get_mut(&agent(0)).unwrap().role = AgentRole::ExpertsOnly;
    let told = homes(&plan);
    assert_eq!(told.model, "small");
    assert!(told.homes.iter().all(|home| home.fingerprint == "small-1"));
    let ids: Vec<_> = told.homes.iter().map(|home| home.agent_id.as_str()).collect();
    assert_eq!(ids, ["agent-1", "agent-2"]);
}
