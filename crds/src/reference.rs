//! The files that are generated from the resource's schema: the CustomResourceDefinition and its reference page.

use crate::spec::ModelDeployment;
use kube::CustomResourceExt;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Where the definition lies, from the repository's root.
pub const DEFINITION_FILE: &str = "charts/boyle/crds/modeldeployments.boyle.dev.yaml";
/// Where the page lies.
pub const REFERENCE_FILE: &str = "docs/reference/modeldeployment.md";

/// The CustomResourceDefinition as YAML.
///
/// # Errors
/// Never for what is compiled in; the YAML writer's own errors.
pub fn definition() -> Result<String, serde_yaml::Error> {
    let yaml = serde_yaml::to_string(&ModelDeployment::crd())?;
    Ok(format!("# Written by `cargo xtask crdgen` from crds/src; change it there.\n{yaml}"))
}

/// Every field: type, default, bounds and meaning; then the rules between fields.
///
/// # Errors
/// Never for what is compiled in; JSON's own errors.
pub fn reference() -> Result<String, serde_json::Error> {
    let definition = serde_json::to_value(ModelDeployment::crd())?;
    let schema =
        definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default();
    let mut page = "\
<!-- Written by `cargo xtask crdgen` from crds/src; change it there. -->
# ModelDeployment

`boyle.dev/v1alpha1`, short name `mdep`, in category `boyle`, namespaced. On a cluster that has other kinds of this name,
write `modeldeployments.boyle.dev`. `kubectl explain mdep.spec --recursive` shows the same.

"
    .to_owned();
    for part in ["spec", "status"] {
        let mut rows = Vec::new();
        let mut rules = rules_of("metadata", &schema);
        let Some(value) = schema.pointer(&format!("/properties/{part}")) else { continue };
        fields(part, value, &mut rows, &mut rules);
        let _ = writeln!(page, "## {part}\n\n{}\n", text(value, "description"));
        page.push_str("| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n");
        rows.iter().for_each(|row| page.push_str(row));
        if part == "spec" {
            page.push_str("\n### What the API server refuses besides\n\n| field | what to write instead |\n|---|---|\n");
            rules.iter().for_each(|rule| page.push_str(rule));
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    Ok(page)
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn fields(path: &str, schema: &Value, rows: &mut Vec<String>, rules: &mut Vec<String>) {
    rules.extend(rules_of(path, schema));
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array);
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        let must = required.is_some_and(|it| it.iter().any(|it| it == name));
        let default = field.get("default").map(|it| format!("`{it}`"));
        let default = default.unwrap_or_else(|| if must { "required" } else { "" }.to_owned());
        rows.push(format!(
            "| `{path}` | {} | {default} | {} | {} |\n",
            kind(field),
            bounds(field),
            text(field, "description").replace('\n', " ").replace('|', "\\|"),
        ));
        fields(&path, field, rows, rules);
        if let Some(items) = field.get("items") {
            fields(&format!("{path}[]"), items, rows, rules);
        }
    }
}

fn kind(schema: &Value) -> String {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return "number or text".to_owned();
    }
    let items = schema.get("items").map(kind);
    let values = schema.get("additionalProperties").map(kind);
    match (text(schema, "type"), items, values) {
        ("array", Some(items), _) => format!("list of {items}"),
        ("object", _, Some(values)) => format!("map to {values}"),
        ("", _, _) => "any".to_owned(),
        ("string", _, _) => "text".to_owned(),
        (other, _, _) => other.to_owned(),
    }
}

fn bounds(schema: &Value) -> String {
    let number = |key: &str| {
        schema.get(key).map(|it| it.as_f64().map_or(it.to_string(), |it| it.to_string()))
    };
    let range = |low: &str, high: &str, what: &str| match (number(low), number(high)) {
        (Some(low), Some(high)) if low == high => Some(format!("{low}{what}")),
        (Some(low), Some(high)) => Some(format!("{low} to {high}{what}")),
        (Some(low), None) => Some(format!("at least {low}{what}")),
        (None, Some(high)) => Some(format!("at most {high}{what}")),
        (None, None) => None,
    };
    let words = schema.get("enum").and_then(Value::as_array).map(|words| {
        let words = words.iter().filter_map(Value::as_str);
        words.map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
    });
    let all = [
        words,
        range("minimum", "maximum", ""),
        range("minLength", "maxLength", " characters"),
        range("minItems", "maxItems", " entries"),
        range("minProperties", "maxProperties", " entries"),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// One row for each rule: the field that it is about and its remedy.
fn rules_of(path: &str, schema: &Value) -> Vec<String> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let row = |rule: &Value| {
        let field = text(rule, "fieldPath");
        let message = text(rule, "message").replace('|', "\\|");
        format!("| `{path}{field}` | {message} |\n")
    };
    rules.into_iter().flatten().map(row).collect()
}
