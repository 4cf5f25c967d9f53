use super::{Assignment, AssignmentError};
use engine::exchange::PeerId;
use model::executor::ExpertAddress;
use proto::v1;

fn wire() -> v1::Assignment {
    let peer = |id: &str, port| v1::Peer { agent_id: id.into(), address: format!("host:{port}") };
    let placed = |expert, ids: &[&str]| v1::ExpertPlacement {
        layer: 1,
        expert,
        agent_ids: ids.iter().map(ToString::to_string).collect(),
    };
    v1::Assignment {
        generation: 3,
        deployment: "tiny".into(),
        agent_id: "a".into(),
        model: Some(v1::ModelSource {
            directory: "/models/tiny".into(),
            ..v1::ModelSource::default()
        }),
        peers: vec![peer("a", 1), peer("b", 2)],
        placement: vec![placed(0, &["a", "b"]), placed(1, &["b"]), placed(2, &["b", "a"])],
        settings: Some(v1::EngineSettings {
            context_length: 512,
            step_tokens_max: 64,
            sequences_max: 8,
            queue_max: 16,
            kv_cache_bytes: 1 << 20,
            expert_deadline_ms: 200,
            kernel_path: "auto".into(),
            draft_tokens_max: 3,
        }),
    }
}

#[test]
fn a_whole_assignment_is_taken() {
    let assignment = Assignment::parse(&wire(), "a").unwrap();
    let address = |expert| ExpertAddress { layer: 1, expert };
    assert_eq!(assignment.own_experts(), [address(0), address(2)].into());
    assert_eq!(assignment.peers[&PeerId("b".into())], "host:2");
    assert_eq!(assignment.placement.copies[&address(1)], [PeerId("b".into())]);
    assert_eq!(assignment.binding.settings.context_length, 512);
}

#[test]
fn another_agents_assignment_is_refused() {
    let error = Assignment::parse(&wire(), "c").unwrap_err();
    assert_eq!(error, AssignmentError::OtherAgent { given: "a".into(), own: "c".into() });
}

#[test]
fn what_is_wrong_is_named() {
    let check = |field: &str, change: &dyn Fn(&mut v1::Assignment)| {
        let mut wire = wire();
        change(&mut wire);
        let error = Assignment::parse(&wire, "a").unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    };
    check("generation", &|wire| wire.generation = 0);
    check("deployment", &|wire| wire.deployment.clear());
    check("deployment", &|wire| wire.deployment = "x".repeat(300));
    check("model.directory", &|wire| wire.model = None);
    check("peers:", &|wire| wire.peers[0].agent_id = "z".into());
    check("peers[1].agent_id", &|wire| wire.peers[1].agent_id = "a".into());
    check("peers[1].address", &|wire| wire.peers[1].address = "nowhere".into());
    check("peers[1].address", &|wire| wire.peers[1].address = "host:0".into());
    check("peers[1].address", &|wire| wire.peers[1].address = "ho st:1".into());
    check("placement[1]:", &|wire| wire.placement[1].expert = 0);
    check("placement[1].agent_ids", &|wire| wire.placement[1].agent_ids.clear());
    check("placement[1].agent_ids", &|wire| wire.placement[1].agent_ids[0] = "z".into());
    check("placement[0].agent_ids", &|wire| wire.placement[0].agent_ids[1] = "a".into());
    check("settings is missing", &|wire| wire.settings = None);
    let settings = |field: &str, change: fn(&mut v1::EngineSettings)| {
        check(&format!("settings.{field}"), &|wire| {
            change(wire.settings.as_mut().unwrap());
        });
    };
    settings("context_length", |settings| settings.context_length = 0);
    settings("step_tokens_max", |settings| settings.step_tokens_max = u32::MAX);
    settings("sequences_max", |settings| settings.sequences_max = 0);
    settings("queue_max", |settings| settings.queue_max = 0);
    settings("kv_cache_bytes", |settings| settings.kv_cache_bytes = 0);
    settings("expert_deadline_ms", |settings| settings.expert_deadline_ms = 1 << 30);
    settings("draft_tokens_max", |settings| settings.draft_tokens_max = 5);
    settings("kernel_path", |settings| settings.kernel_path = "abacus".into());
}
