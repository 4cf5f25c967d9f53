//! Dashboards: whole, explained, and about metrics that there are.

use super::{chart, read, root};
use serde_json::Value;
use std::collections::BTreeSet;

/// Where metrics are registered.
const SOURCES: &[(&str, &str)] = &[
    ("boyle_router_", "router/src"),
    ("boyle_agent_", "node-agent/src"),
    ("boyle_operator_", "operator/src"),
];

/// What Prometheus appends to a histogram's name.
const HISTOGRAM_SUFFIXES: &[&str] = &["_bucket", "_sum", "_count"];

fn dashboards() -> Vec<(String, Value)> {
    let folder = chart().join("dashboards");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        found.push((path.display().to_string(), serde_json::from_str(&text).unwrap()));
    }
    assert!(found.len() >= 2);
    found
}

/// Every expression of a dashboard, a rule or a variable.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if ["expr", "definition"].contains(&key.as_str()) => {
                        found.push(text.clone());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Words that begin like our metrics.
pub fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    words.filter(|word| word.starts_with("boyle_") && word.len() > 6).map(str::to_owned).collect()
}

/// Whether some source of the metric's part of Boyle has its name as a literal, with or without the prefix.
pub fn is_registered(metric: &str) -> bool {
    let base = HISTOGRAM_SUFFIXES.iter().find_map(|suffix| metric.strip_suffix(suffix));
    let names = [Some(metric), base];
    SOURCES.iter().filter(|(prefix, _)| metric.starts_with(prefix)).any(|(prefix, folder)| {
        let literals = names.iter().flatten().flat_map(|name| {
            let short = name.strip_prefix(prefix).unwrap_or(name);
            [format!("\"{name}\""), format!("\"{short}\"")]
        });
        let literals: Vec<String> = literals.collect();
        let files = rust_files(&root().join(folder));
        files.iter().any(|text| literals.iter().any(|literal| text.contains(literal)))
    })
}

fn rust_files(folder: &std::path::Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Alerts only mention metrics.
            if !path.ends_with("render") {
                texts.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            texts.push(std::fs::read_to_string(&path).unwrap());
        }
    }
    texts
}

#[test]
fn every_metric_of_a_dashboard_is_registered_somewhere() {
    let mut missing = BTreeSet::new();
    let mut count = 0;
    for (_, dashboard) in dashboards() {
        let mut found = Vec::new();
        expressions(&dashboard, &mut found);
        for metric in found.iter().flat_map(|expression| metrics(expression)) {
            count += 1;
            if !is_registered(&metric) {
                missing.insert(metric);
            }
        }
    }
    assert!(count > 30, "{count}");
    assert!(missing.is_empty(), "no such metrics: {missing:#?}");
}

#[test]
fn panels_are_numbered_placed_explained_and_ask_the_chosen_source() {
    for (name, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}");
            let place = &panel["gridPos"];
            let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
            assert!(right <= 24, "{name}: {title}");
            if panel["type"] == "row" {
                continue;
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            assert!(panel["description"].as_str().unwrap().len() > 8, "{name}: {title}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{name}: {title}");
        }
    }
}

/// What people were promised to see.
#[test]
fn the_serving_dashboard_shows_what_is_promised() {
    let text = read("charts/boyle/dashboards/serving.json");
    let promised = [
        "generation_tokens_total",
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "requests_waiting",
        "kv_cache_usage_ratio",
        "experts_placed",
        "experts_missing",
        "expert_copies",
        "exchange_failovers_total",
        "resumes_total",
        "operator_cost_per_million_tokens",
        "reference_cost_per_million_tokens",
    ];
    for metric in promised {
        assert!(text.contains(metric), "{metric}");
    }
}
