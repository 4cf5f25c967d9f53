//! The chart's values: each is known to the schema, each wrong one is refused with words.

use super::{chart, parse, stderr, template};
use serde_json::Value;
use std::collections::BTreeSet;

fn schema() -> Value {
    let text = std::fs::read_to_string(chart().join("values.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn wrong_values_are_refused_and_named() {
    let cases = [
        ("replicas=0", "/replicas"),
        ("replicas=many", "/replicas"),
        ("replica=2", "'replica'"),
        ("image.tga=1", "'tga'"),
        ("image.tag=a b", "/image/tag"),
        ("image.digest=sha256:12", "/image/digest"),
        ("image.repository=", "/image/repository"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("watchNamespace=Models", "/watchNamespace"),
        ("monitoring.enabled=perhaps", "/monitoring/enabled"),
        ("monitoring.interval=often", "/monitoring/interval"),
        ("prices.currency=dollars", "/prices/currency"),
        ("prices.date=yesterday", "/prices/date"),
        ("prices.models.o1.input=1", "/prices/models"),
        ("prices.models.openai/o1.input=cheap", "/prices/models/openai~1o1/input"),
        ("resources.limit.memory=1Gi", "'limit'"),
        ("imagePullSecrets[0].nam=x", "'nam'"),
    ];
    for (setting, named) in cases {
        let output = template(&["--set", setting]);
        assert!(!output.status.success(), "{setting} was taken");
        let said = stderr(&output);
        assert!(said.contains(named), "{setting}: {said}");
    }
}

/// Every value that there is can be set, and every value that can be set is there to be found.
#[test]
fn values_and_schema_have_the_same_fields() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values = parse(&text).remove(0);
    let schema = schema();
    let known = fields(&schema["properties"]);
    let written: BTreeSet<String> = values.as_object().unwrap().keys().cloned().collect();
    let helms_own = BTreeSet::from(["global".to_owned()]);
    assert_eq!(&written | &helms_own, known);
    for (key, value) in values.as_object().unwrap() {
        let properties = &schema["properties"][key]["properties"];
        // What is Kubernetes' own is passed on as it is.
        let passed_on = ["resources", "affinity"].contains(&key.as_str());
        if let (Value::Object(value), Value::Object(_), false) = (value, properties, passed_on) {
            let written: BTreeSet<String> = value.keys().cloned().collect();
            assert_eq!(written, fields(properties), "{key}");
        }
    }
}

#[test]
fn every_value_has_a_comment() {
    let text = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let top = line.starts_with(|it: char| it.is_ascii_lowercase());
        if !top {
            continue;
        }
        let before = lines[index - 1].starts_with('#');
        let inside = lines.get(index + 1).is_some_and(|next| next.trim_start().starts_with("# --"));
        // Lines of one thought share a comment.
        let beside = lines[index - 1].starts_with(|it: char| it.is_ascii_lowercase());
        assert!(before || inside || beside, "{line}");
    }
}

fn fields(properties: &Value) -> BTreeSet<String> {
    properties.as_object().unwrap().keys().cloned().collect()
}
