//! Alerts: those of the chart about the operator, and those that the operator makes for each deployment.

use super::dashboards::{is_registered, metrics};
use super::{MONITORING, objects, read};
use crate::render;
use serde_json::Value;
use std::collections::BTreeSet;

/// All rules: the chart's, and those of two deployments that differ in everything.
fn rules() -> Vec<Value> {
    let mut groups: Vec<Value> = Vec::new();
    let chart = objects(&[MONITORING]);
    let of_chart = chart.iter().filter(|it| it["kind"] == "PrometheusRule");
    groups.extend(of_chart.map(|it| it["spec"]["groups"].clone()));
    for (_, manifest) in &render::CASES[..2] {
        let rule = operator::render::prometheus_rule(&render::target(manifest), &<_>::default());
        groups.push(render::json(&rule)["spec"]["groups"].clone());
    }
    let groups = groups.iter().flat_map(|it| it.as_array().unwrap());
    groups.flat_map(|it| it["rules"].as_array().unwrap().clone()).collect()
}

fn text<'a>(rule: &'a Value, pointer: &str) -> &'a str {
    rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn every_alert_asks_for_metrics_that_there_are() {
    let mut missing = BTreeSet::new();
    for rule in rules() {
        let found = metrics(text(&rule, "/expr"));
        assert!(!found.is_empty(), "{rule}");
        missing.extend(found.into_iter().filter(|metric| !is_registered(metric)));
    }
    assert!(missing.is_empty(), "no such metrics: {missing:#?}");
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_to_read_on() {
    let runbook = read("docs/operate.md");
    let rules = rules();
    assert!(rules.len() > 15);
    for rule in rules {
        let name = text(&rule, "/alert");
        assert!(name.starts_with("Boyle"), "{name}");
        assert!(
            ["critical", "warning", "info"].contains(&text(&rule, "/labels/severity")),
            "{name}"
        );
        assert!(!text(&rule, "/annotations/summary").is_empty(), "{name}");
        assert!(!text(&rule, "/for").is_empty(), "{name}");
        let anchor = format!("docs/operate.md#{}", name.to_lowercase());
        assert_eq!(text(&rule, "/annotations/runbook"), anchor);
        assert!(runbook.contains(&format!("\n### {name}\n")), "docs/operate.md lacks ### {name}");
    }
}

/// A second alert of the same name would hide behind the first.
#[test]
fn alerts_of_one_deployment_have_their_own_names() {
    let rule =
        operator::render::prometheus_rule(&render::target(render::CASES[0].1), &<_>::default());
    let rule = render::json(&rule);
    let rules = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    let names: BTreeSet<&str> = rules.iter().map(|it| text(it, "/alert")).collect();
    assert_eq!(names.len(), rules.len());
}

#[test]
fn the_deployments_objectives_are_the_alerts_thresholds() {
    let rule = render::json(&operator::render::prometheus_rule(
        &render::target(render::CASES[1].1),
        &<_>::default(),
    ));
    let rules = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    let expression =
        |name: &str| text(rules.iter().find(|it| it["alert"] == name).unwrap(), "/expr").to_owned();
    assert!(
        expression("BoyleFirstTokenSlow").ends_with("> 3"),
        "{}",
        expression("BoyleFirstTokenSlow")
    );
    assert!(expression("BoyleTokensSlow").ends_with("> 0.04"), "{}", expression("BoyleTokensSlow"));
}
