//! `spec.agents.resources` and `spec.agents.template`: what of them is Boyle's, and what cannot work.

use crate::quantity::Quantity;
use crate::rules::{
    AGENT_CONTAINER, AGENT_FIELDS_RESERVED, POD_FIELDS_RESERVED, RESERVED_DOMAINS,
    RESERVED_VARIABLES,
};
use crate::spec::Agents;
use crate::violation::Violation;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const RESOURCES: &str = "spec.agents.resources";
const TEMPLATE: &str = "spec.agents.template";

pub(crate) fn resources(agents: &Agents, found: &mut Vec<Violation>) {
    let Some(resources) = &agents.resources else { return };
    for key in
        resources.keys().filter(|it| !["limits", "requests", "claims"].contains(&it.as_str()))
    {
        let remedy = "write limits, requests or claims, as in a Pod";
        found.push(Violation::new(RESOURCES, key, remedy));
    }
    let limits = quantities("limits", resources, found);
    let requests = quantities("requests", resources, found);
    for (name, (request, text)) in &requests {
        if let Some((limit, limit_text)) = limits.get(name)
            && request > limit
        {
            let remedy = format!(
                "write at most {RESOURCES}.limits.{name}, which is {limit_text}, or raise that"
            );
            found.push(Violation::new(&format!("{RESOURCES}.requests.{name}"), text, remedy));
        }
    }
    let Some(accelerator) = &agents.accelerator else { return };
    for (part, amounts) in [("limits", &limits), ("requests", &requests)] {
        if let Some((_, text)) = amounts.get(&accelerator.resource) {
            let remedy = "leave it out here; spec.agents.accelerator says it";
            let field = format!("{RESOURCES}.{part}.{}", accelerator.resource);
            found.push(Violation::new(&field, text, remedy));
        }
    }
}

/// Resource → its amount, and as it was written.
fn quantities(
    part: &str,
    resources: &Map<String, Value>,
    found: &mut Vec<Violation>,
) -> BTreeMap<String, (Quantity, String)> {
    let field = format!("{RESOURCES}.{part}");
    let amounts = match resources.get(part) {
        None => return BTreeMap::new(),
        Some(Value::Object(amounts)) => amounts,
        Some(other) => {
            let remedy = "write resources and amounts, {\"memory\": \"512Gi\"} for example";
            found.push(Violation::new(&field, other, remedy));
            return BTreeMap::new();
        }
    };
    let mut read = BTreeMap::new();
    for (name, value) in amounts {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match Quantity::parse(&text) {
            Ok(quantity) => drop(read.insert(name.clone(), (quantity, text))),
            Err(error) => found.push(Violation::new(&format!("{field}.{name}"), text, error)),
        }
    }
    read
}

pub(crate) fn template(agents: &Agents, found: &mut Vec<Violation>) {
    let Some(template) = &agents.template else { return };
    for key in template.keys().filter(|it| !["metadata", "spec"].contains(&it.as_str())) {
        let remedy = "write metadata and spec, as in a Pod";
        found.push(Violation::new(TEMPLATE, key, remedy));
    }
    for part in ["labels", "annotations"] {
        let words = template.get("metadata").and_then(|it| it.get(part)).and_then(Value::as_object);
        for (key, value) in words.into_iter().flatten() {
            if RESERVED_DOMAINS.iter().any(|domain| key.starts_with(domain)) {
                let remedy = "leave it out; Boyle finds its pods by it";
                let field = format!("{TEMPLATE}.metadata.{part}.{key}");
                found.push(Violation::new(&field, shown(value), remedy));
            }
        }
    }
    let Some(spec) = template.get("spec") else { return };
    for reserved in POD_FIELDS_RESERVED {
        if let Some(value) = spec.get(reserved.name) {
            let field = format!("{TEMPLATE}.spec.{}", reserved.name);
            found.push(Violation::new(&field, shown(value), reserved.remedy));
        }
    }
    let containers = spec.get("containers").and_then(Value::as_array);
    for one in containers.into_iter().flatten() {
        container(one, found);
    }
}

fn container(container: &Value, found: &mut Vec<Violation>) {
    let field = format!("{TEMPLATE}.spec.containers");
    let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
    if name != AGENT_CONTAINER {
        if container.get("image").is_none() {
            let remedy = format!(
                "write {AGENT_CONTAINER}, which is the agent itself, or give this container an image to run beside it"
            );
            found.push(Violation::new(&field, name, remedy));
        }
        return;
    }
    for reserved in AGENT_FIELDS_RESERVED {
        if let Some(value) = container.get(reserved.name) {
            let field = format!("{field}.{}", reserved.name);
            found.push(Violation::new(&field, shown(value), reserved.remedy));
        }
    }
    let variables = container.get("env").and_then(Value::as_array);
    let names = variables.into_iter().flatten().filter_map(|it| it.get("name")?.as_str());
    for name in names.filter(|it| it.starts_with(RESERVED_VARIABLES)) {
        let remedy = "leave it out; variables that begin with BOYLE_ are the operator's";
        found.push(Violation::new(&format!("{field}.env"), name, remedy));
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
