//! The operator's rights: the chart grants what the code's list has, no more and no less.

use super::{VARIANTS, objects};
use operator::rbac::{Place, RULES};
use serde_json::Value;
use std::collections::BTreeSet;

/// (group, resource, verb)
type Right = (String, String, String);

fn granted(objects: &[Value], kind: &str, name: &str) -> BTreeSet<Right> {
    let role = objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role.unwrap_or_else(|| panic!("{kind} {name}"))["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    let right = (group.clone(), resource.clone(), verb);
                    assert!(rights.insert(right), "{group} {resource} is granted twice");
                }
            }
        }
    }
    rights
}

fn listed(places: &[Place]) -> BTreeSet<Right> {
    let rules = RULES.iter().filter(|rule| places.contains(&rule.place));
    let rights = rules.flat_map(|rule| {
        rule.resources.iter().flat_map(move |resource| {
            let right =
                |verb: &&str| (rule.group.to_owned(), (*resource).to_owned(), (*verb).to_owned());
            rule.verbs.iter().map(right)
        })
    });
    rights.collect()
}

#[test]
fn the_chart_grants_exactly_what_the_operator_uses() {
    for (name, arguments) in VARIANTS {
        let objects = objects(arguments);
        assert_eq!(
            granted(&objects, "Role", "boyle-operator-own"),
            listed(&[Place::Own]),
            "{name}"
        );
        let namespaced = arguments.iter().any(|it| it.contains("watchNamespace"));
        let (kind, places) = if namespaced {
            ("Role", vec![Place::Deployments])
        } else {
            ("ClusterRole", vec![Place::Deployments, Place::Cluster])
        };
        assert_eq!(granted(&objects, kind, "boyle-operator"), listed(&places), "{name}");
    }
}

#[test]
fn an_operator_of_one_namespace_gets_nothing_cluster_wide() {
    let objects = objects(&["--set=watchNamespace=models"]);
    for object in &objects {
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.starts_with("Cluster"), "{kind}");
    }
    let role = objects
        .iter()
        .find(|it| it["metadata"]["name"] == "boyle-operator" && it["kind"] == "Role");
    assert_eq!(role.unwrap()["metadata"]["namespace"], "models");
}

#[test]
fn no_right_is_a_wildcard() {
    for rule in RULES {
        let words = rule.resources.iter().chain(rule.verbs).chain([&rule.group]);
        assert!(words.into_iter().all(|word| !word.contains('*')), "{rule:?}");
    }
}

#[test]
fn roles_are_bound_to_the_operators_account_only() {
    for (name, arguments) in VARIANTS {
        for object in objects(arguments) {
            let kind = object["kind"].as_str().unwrap();
            if !kind.ends_with("Binding") {
                continue;
            }
            let subjects = object["subjects"].as_array().unwrap();
            assert_eq!(subjects.len(), 1, "{name}");
            assert_eq!(subjects[0]["name"], "boyle-operator", "{name}");
            assert_eq!(subjects[0]["namespace"], "boyle-system", "{name}");
        }
    }
}
