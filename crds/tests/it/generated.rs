//! The generated files are what the types say, and every field says what it is.

use serde_json::Value;
use std::path::Path;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_default()
}

/// The resource's schema as the API server gets it.
pub fn schema() -> Value {
    let definition = crds::definition().expect("YAML");
    let definition: Value = serde_saphyr::from_str(&definition).expect("the same YAML");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn generated_files_are_fresh() {
    let remedy = "stale; run `cargo xtask crdgen`";
    let definition = crds::definition().expect("YAML");
    assert!(file(crds::DEFINITION_FILE) == definition, "{}: {remedy}", crds::DEFINITION_FILE);
    let reference = crds::reference().expect("text");
    assert!(file(crds::REFERENCE_FILE) == reference, "{}: {remedy}", crds::REFERENCE_FILE);
}

#[test]
fn every_field_is_described() {
    let mut fields = 0;
    described("", &schema(), &mut fields);
    assert!(fields >= 80, "only {fields} fields were found");
}

fn described(path: &str, schema: &Value, fields: &mut u32) {
    if let Some(items) = schema.get("items") {
        described(&format!("{path}[]"), items, fields);
    }
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.{name}");
        let text = field.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(text.ends_with('.') && text.len() >= 9, "{path} is described by {text:?}");
        *fields += 1;
        described(&path, field, fields);
    }
}
