//! The person's part of the agents' pods: what is merged, what is refused.

use super::{CASES, json, target};
use operator::render::{self, Group, PodWishes};
use serde_json::{Map, Value};

fn map(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn fields_that_kubernetes_would_drop_and_fields_of_boyle_are_refused() {
    let cases = [
        (
            r#"{"spec": {"nodeSelektor": {"a": "b"}}}"#,
            "spec.agents.template.spec.nodeSelektor",
            "spelling",
        ),
        (r#"{"nodeSelector": {"a": "b"}}"#, "spec.agents.template.nodeSelector", "its place"),
        (
            r#"{"spec": {"tolerations": [{"kee": "b"}]}}"#,
            "spec.agents.template.spec.tolerations[0].kee",
            "spelling",
        ),
        (r#"{"spec": {"nodeSelector": ["a"]}}"#, "spec.agents.template", "as in a Pod"),
        (
            r#"{"spec": {"containers": [{"name": "agent", "image": "x"}]}}"#,
            "spec.agents.template.spec.containers",
            "spec.image",
        ),
        (
            r#"{"spec": {"containers": [{"name": "agent", "resources": {"limits": {"cpu": "1"}}}]}}"#,
            "spec.agents.template.spec.containers",
            "spec.agents.resources",
        ),
        (
            r#"{"spec": {"containers": [{"name": "agent", "env": [{"name": "BOYLE_AGENT_ID", "value": "x"}]}]}}"#,
            "spec.agents.template.spec.containers.env",
            "leave it out",
        ),
        (
            r#"{"spec": {"containers": [{"image": "x"}]}}"#,
            "spec.agents.template.spec.containers",
            "write a name",
        ),
    ];
    for (template, field, remedy) in cases {
        let found = PodWishes::parse(None, Some(&map(template))).unwrap_err();
        assert_eq!(found.len(), 1, "{template}: {found:?}");
        assert_eq!(found[0].field, field, "{template}");
        assert!(found[0].remedy.contains(remedy), "{template}: {}", found[0].remedy);
    }
    let found = PodWishes::parse(Some(&map(r#"{"limit": {"memory": "1Gi"}}"#)), None).unwrap_err();
    assert_eq!(found[0].field, "spec.agents.resources.limit");
}

#[test]
fn the_overlay_adds_and_boyle_keeps_its_own() {
    let mut target = target(CASES[0].1);
    let template = map(r#"{
            "metadata": {"labels": {"team": "search", "boyle.dev/group": "mine"},
                         "annotations": {"boyle.dev/revision": "mine", "note": "x"}},
            "spec": {
                "containers": [
                    {"name": "agent", "env": [{"name": "RUST_LOG", "value": "debug"}]},
                    {"name": "sidecar", "image": "sidecar:1"}
                ],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
            }
        }"#);
    target.pods = PodWishes::parse(None, Some(&template)).unwrap();
    let group = Group::of(&target);
    let set = json(&render::agents_stateful_set(&target, &group, 3));
    let pod = &set["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["team"], "search");
    assert_eq!(pod["metadata"]["labels"]["boyle.dev/group"], group.as_str());
    assert_eq!(pod["metadata"]["annotations"]["note"], "x");
    assert_ne!(pod["metadata"]["annotations"]["boyle.dev/revision"], "mine");
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2);
    let names: Vec<&str> = containers[0]["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert!(names.contains(&"BOYLE_AGENT_ID") && names.contains(&"RUST_LOG"), "{names:?}");
    assert!(pod["spec"]["affinity"]["podAntiAffinity"].is_object());
    assert!(pod["spec"]["affinity"]["nodeAffinity"].is_object());
}

#[test]
fn the_secret_and_the_endpoint_become_environment() {
    let mut target = target(CASES[4].1);
    target.secret_name = Some("keys".to_owned());
    target.endpoint = Some("http://minio.example:9000".to_owned());
    let set = json(&render::agents_stateful_set(&target, &Group::of(&target), 1));
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["envFrom"][0]["secretRef"]["name"], "keys");
    let variables = container["env"].as_array().unwrap();
    let endpoint = variables.iter().find(|it| it["name"] == "BOYLE_MODEL_ENDPOINT").unwrap();
    assert_eq!(endpoint["value"], "http://minio.example:9000");
}
