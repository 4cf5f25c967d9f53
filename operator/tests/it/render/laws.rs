//! What holds for every object of every deployment.

use super::{CASES, objects, target, text};
use operator::render::{NAME_LENGTH_MAX, Names};
use serde_json::Value;

/// Longest label value, and longest name of a Service or of a pod that has a DNS name.
const LABEL_LENGTH_MAX: usize = 63;
/// A hyphen and a hash of ten characters, which Kubernetes appends to a StatefulSet's name to make a pod's label.
const REVISION_SUFFIX_LENGTH: usize = 11;

fn all() -> Vec<Value> {
    let mut all: Vec<Value> =
        CASES.iter().flat_map(|(_, manifest)| objects(&target(manifest))).collect();
    all.extend(objects(&longest()));
    all
}

/// A deployment with the longest name that there may be.
fn longest() -> operator::render::Target {
    let name = "a".repeat(NAME_LENGTH_MAX);
    target(&CASES[0].1.replace("{name: tiny-r1}", &format!("{{name: {name}}}")))
}

fn pod_templates(objects: &[Value]) -> Vec<&Value> {
    objects.iter().filter_map(|object| object.pointer("/spec/template")).collect()
}

#[test]
fn equal_input_gives_equal_output() {
    for (name, manifest) in CASES {
        assert_eq!(objects(&target(manifest)), objects(&target(manifest)), "{name}");
    }
}

#[test]
fn every_pod_satisfies_the_restricted_pod_security_standard() {
    let all = all();
    let templates = pod_templates(&all);
    assert_eq!(templates.len(), 2 * (CASES.len() + 1));
    for template in templates {
        let pod = &template["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[forbidden], Value::Null, "{forbidden}");
        }
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(volumes.iter().all(|it| it.get("hostPath").is_none()), "{volumes:?}");
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
            assert_eq!(security["capabilities"].get("add"), None);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["privileged"], Value::Null);
        }
    }
}

#[test]
fn no_pod_gets_a_token_of_the_api_server() {
    let all = all();
    for template in pod_templates(&all) {
        assert_eq!(template["spec"]["automountServiceAccountToken"], false);
    }
    for account in all.iter().filter(|it| it["kind"] == "ServiceAccount") {
        assert_eq!(account["automountServiceAccountToken"], false);
    }
}

#[test]
fn names_and_labels_fit() {
    for object in all() {
        let name = text(&object, "/metadata/name");
        let mut longest = name.len();
        if object["kind"] == "StatefulSet" {
            let labelled = name.len() + REVISION_SUFFIX_LENGTH;
            assert!(labelled <= LABEL_LENGTH_MAX, "{name}: label of {labelled}");
            longest = name.len() + "-1023".len();
        }
        assert!(longest <= LABEL_LENGTH_MAX, "{name}");
        let labels = object["metadata"]["labels"].as_object().unwrap();
        for (key, value) in labels {
            assert!(value.as_str().unwrap().len() <= LABEL_LENGTH_MAX, "{name}: {key}");
        }
    }
}

#[test]
fn selectors_match_the_labels_of_their_pods() {
    let all = all();
    for object in all.iter().filter(|it| it.pointer("/spec/template").is_some()) {
        let selector = object["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        for (key, value) in selector {
            assert_eq!(&labels[key], value, "{}", text(object, "/metadata/name"));
        }
    }
}

/// Services, budgets and policies select the pods of one component of their own deployment, and no others.
#[test]
fn guards_and_services_select_exactly_one_component() {
    for (name, manifest) in CASES {
        let objects = objects(&target(manifest));
        let pods: Vec<&Value> = pod_templates(&objects);
        let selectors = objects.iter().filter_map(|object| match text(object, "/kind") {
            "Service" => object.pointer("/spec/selector"),
            "PodDisruptionBudget" => object.pointer("/spec/selector/matchLabels"),
            "NetworkPolicy" => object.pointer("/spec/podSelector/matchLabels"),
            _ => None,
        });
        let mut count = 0;
        for selector in selectors {
            let selector = selector.as_object().unwrap();
            let chosen = pods.iter().filter(|pod| {
                selector.iter().all(|(key, value)| &pod["metadata"]["labels"][key] == value)
            });
            assert_eq!(chosen.count(), 1, "{name}: {selector:?}");
            count += 1;
        }
        assert_eq!(count, 7, "{name}");
    }
}

#[test]
fn every_object_belongs_to_its_deployment() {
    for object in all() {
        let owner = &object["metadata"]["ownerReferences"][0];
        assert_eq!(owner["kind"], "ModelDeployment");
        assert_eq!(owner["controller"], true);
        assert_eq!(object["metadata"]["labels"]["boyle.dev/model-deployment"], owner["name"]);
        assert_eq!(object["metadata"]["namespace"], "models");
        assert!(!text(&object, "/apiVersion").is_empty());
    }
}

#[test]
fn names_of_one_kind_differ() {
    for (name, manifest) in CASES {
        let objects = objects(&target(manifest));
        let mut keys: Vec<(&str, &str)> =
            objects.iter().map(|it| (text(it, "/kind"), text(it, "/metadata/name"))).collect();
        keys.sort_unstable();
        let before = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), before, "{name}");
    }
}

/// A hung engine calls itself dead after ten seconds; the probe has the other twenty.
#[test]
fn a_hung_agent_is_killed_within_thirty_seconds() {
    let objects = objects(&target(CASES[0].1));
    let probe = &objects[0]["spec"]["template"]["spec"]["containers"][0]["livenessProbe"];
    let number = |key: &str| probe[key].as_i64().unwrap();
    let seconds = number("periodSeconds") * number("failureThreshold") + number("timeoutSeconds");
    assert!(seconds <= 20, "{seconds}");
}

#[test]
fn a_router_may_finish_what_it_waits_for() {
    let objects = objects(&target(CASES[0].1));
    let pod = &objects[2]["spec"]["template"]["spec"];
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    let seconds = |name: &str| {
        let found = variables.iter().find(|it| it["name"] == name).unwrap();
        text(found, "/value").parse::<i64>().unwrap()
    };
    let waits = seconds("BOYLE_DRAIN_SECONDS") + seconds("BOYLE_SHUTDOWN_SECONDS");
    assert!(pod["terminationGracePeriodSeconds"].as_i64().unwrap() > waits);
}

#[test]
fn the_agents_address_is_a_name_of_their_service() {
    let names = Names::new("tiny-r1");
    let address = names.agent_address("tiny-r1-agents-0a1b2c3d-0", "models");
    assert_eq!(address, "tiny-r1-agents-0a1b2c3d-0.tiny-r1-agents.models.svc:7070");
    assert_eq!(names.url("models"), "http://tiny-r1.models.svc");
}
