//! What makes a second group, what restarts agents, and what does neither.

use super::{CASES, target};
use operator::render::{Group, PodWishes, Revision, Target};

type Change = (&'static str, fn(&mut Target));

fn everything() -> Target {
    target(CASES[1].1)
}

fn wishes(resources: &str, template: &str) -> PodWishes {
    let map = |text: &str| serde_json::from_str(text).unwrap();
    PodWishes::parse(Some(&map(resources)), Some(&map(template))).unwrap()
}

#[test]
fn another_model_is_another_group() {
    let changes: &[Change] = &[
        ("source", |it| it.request.source = crds::ModelSource::parse("hf://other/model").unwrap()),
        ("revision", |it| it.request.revision = "v2".to_owned()),
        ("precision", |it| it.request.precision = crds::Precision::Bf16),
    ];
    for (name, change) in changes {
        let (before, mut after) = (everything(), everything());
        change(&mut after);
        assert_ne!(Group::of(&before), Group::of(&after), "{name}");
        assert_eq!(Revision::of(&before), Revision::of(&after), "{name}");
    }
}

#[test]
fn wishes_that_an_agent_reads_at_its_start_are_another_revision_of_the_same_group() {
    let changes: &[Change] = &[
        ("image", |it| it.image = "registry.example/boyle:0.2.0".to_owned()),
        ("accelerator", |it| it.request.accelerator = None),
        ("context length", |it| it.request.context_length = None),
        ("secret", |it| it.secret_name = Some("token".to_owned())),
        ("endpoint", |it| it.endpoint = Some("https://mirror.example".to_owned())),
        ("pods", |it| it.pods = wishes(r#"{"limits": {"memory": "1Gi"}}"#, "{}")),
        ("template", |it| it.pods = wishes("{}", r#"{"spec": {"nodeSelector": {"a": "b"}}}"#)),
    ];
    for (name, change) in changes {
        let (before, mut after) = (everything(), everything());
        change(&mut after);
        assert_ne!(Revision::of(&before), Revision::of(&after), "{name}");
        assert_eq!(Group::of(&before), Group::of(&after), "{name}");
    }
}

#[test]
fn scaling_moving_the_operator_and_changed_aims_restart_nothing() {
    let changes: &[Change] = &[
        ("agents", |it| it.request.agents.min = 7),
        ("copies", |it| it.request.copies = std::num::NonZeroU32::MIN),
        ("router", |it| it.request.router.min = 5),
        ("cost", |it| it.request.cost.accelerator_hour = None),
        ("operator", |it| it.operator_namespace = "elsewhere".to_owned()),
    ];
    for (name, change) in changes {
        let (before, mut after) = (everything(), everything());
        change(&mut after);
        assert_ne!(before, after, "{name}");
        assert_eq!(Revision::of(&before), Revision::of(&after), "{name}");
        assert_eq!(Group::of(&before), Group::of(&after), "{name}");
    }
}

/// The values themselves, because they are kept in clusters: another version must find its agents up to date.
#[test]
fn hashes_stay_as_they_were() {
    let target = everything();
    assert_eq!(Group::of(&target).as_str(), "652d2649");
    assert_eq!(Revision::of(&target).as_str(), "31caf2c2");
}

#[test]
fn the_order_of_keys_and_empty_wishes_change_nothing() {
    let mut one = everything();
    let mut two = everything();
    one.pods = wishes(r#"{"limits": {"memory": "1Gi", "cpu": "1"}}"#, "{}");
    two.pods = wishes(r#"{"limits": {"cpu": "1", "memory": "1Gi"}}"#, "{}");
    assert_eq!(Revision::of(&one), Revision::of(&two));
    one.pods = wishes("{}", "{}");
    two.pods = PodWishes::default();
    assert_eq!(Revision::of(&one), Revision::of(&two));
}
