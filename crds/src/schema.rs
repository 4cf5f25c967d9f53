//! The OpenAPI schema of the resource, made structural as the API server wants it.

use crate::rules::{self, Reserved};
use crate::spec::{ModelDeployment, ModelDeploymentSpec};
use crate::status::ModelDeploymentStatus;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Entries of a map or list in a pod overlay; bounds what checking them costs.
const OVERLAY_ENTRIES_MAX: u32 = 64;
/// Longest name in a pod overlay.
const OVERLAY_NAME_LENGTH_MAX: u32 = 317;
/// Resources of a container: CPU, memory, storage and a few devices.
const RESOURCES_MAX: u32 = 16;
/// What Kubernetes reads as a quantity.
const QUANTITY: &str =
    r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+]?[0-9]{1,2})?$";
/// Longest quantity as text.
const QUANTITY_LENGTH_MAX: u32 = 32;

impl JsonSchema for ModelDeployment {
    fn schema_name() -> Cow<'static, str> {
        "ModelDeployment".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({
            "type": "object",
            "description": "One served model: which one, on how many machines, at what response times. The operator \
                            turns it into agents that share the model's experts and routers that clients talk to.",
            "properties": {
                "spec": generator.subschema_for::<ModelDeploymentSpec>(),
                "status": generator.subschema_for::<ModelDeploymentStatus>(),
            },
            "required": ["spec"],
        });
        describe(&mut schema, "spec", "What to serve, and with what.");
        describe(
            &mut schema,
            "status",
            "What is, as the operator last saw it. Nobody else writes it.",
        );
        let mut value = schema.to_value();
        make_structural(&mut value);
        rules::add(&mut value);
        Schema::try_from(value).unwrap_or_default()
    }
}

fn describe(schema: &mut Schema, property: &str, text: &str) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    if let Some(Value::Object(property)) = properties.and_then(|it| it.get_mut(property)) {
        property.insert("description".to_owned(), text.into());
    }
}

/// Rewrites what schemars says and the API server does not take: `null` as a type, unsigned formats, `oneOf` for
/// documented variants. An absent field says what `null` would.
fn make_structural(value: &mut Value) {
    let Value::Object(object) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(make_structural);
        }
        return;
    };
    flatten_choices(object);
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|it| it != "null");
        if let [single] = types.as_slice() {
            let single = single.clone();
            object.insert("type".to_owned(), single);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|it| !it.is_null());
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if object.get("format").and_then(Value::as_str).is_some_and(|it| it.starts_with("uint")) {
        object.insert("format".to_owned(), "int64".into());
    }
    // Lines end where our source does, which is nothing to a reader.
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    object.values_mut().for_each(make_structural);
}

/// `anyOf [X, null]` → `X`; `oneOf [const A, const B]` → `enum [A, B]`.
fn flatten_choices(object: &mut Map<String, Value>) {
    if let Some(Value::Array(choices)) = object.remove("anyOf") {
        for choice in choices.into_iter().filter(|it| it.get("type") != Some(&json!("null"))) {
            if let Value::Object(choice) = choice {
                for (key, value) in choice {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
    if let Some(Value::Array(choices)) = object.remove("oneOf") {
        let mut words = Vec::new();
        for choice in &choices {
            match (choice.get("const"), choice.get("enum")) {
                (Some(word), _) => words.push(word.clone()),
                (None, Some(Value::Array(more))) => words.extend(more.iter().cloned()),
                (None, _) => (),
            }
        }
        object.insert("type".to_owned(), "string".into());
        object.insert("enum".to_owned(), Value::Array(words));
    }
}

/// A container's ResourceRequirements.
pub(crate) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "maxProperties": RESOURCES_MAX,
            "additionalProperties": {
                // Alone: beside it an `anyOf` of both types is folded into `type: integer`, and then every server-side
                // apply fails on a quantity that is text.
                "x-kubernetes-int-or-string": true,
                "pattern": QUANTITY,
                "minimum": 0,
                "maxLength": QUANTITY_LENGTH_MAX,
            },
        })
    };
    let claims = json!({
        "type": "array",
        "description": "Claims of spec.resourceClaims in the template that the agent's container uses.",
        "maxItems": RESOURCES_MAX,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "description": "The claim's name in the template.", "maxLength": 63},
                "request": {
                    "type": "string",
                    "description": "One request of the claim; all of them when absent.",
                    "maxLength": 63,
                },
            },
        },
    });
    json_schema!({
        "type": "object",
        "properties": {
            "limits": quantities("Most that an agent's container may use, for example {\"memory\": \"512Gi\"}."),
            "requests": quantities(
                "What a node must have free for an agent's container, for example {\"cpu\": \"16\"}; the limit \
                 when absent. At most the limit."
            ),
            "claims": claims,
        },
    })
}

/// A PodTemplateSpec of which only what rules look at is spelled out; Kubernetes knows the rest.
pub(crate) fn template(_: &mut SchemaGenerator) -> Schema {
    let words = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "maxProperties": OVERLAY_ENTRIES_MAX,
            "additionalProperties": {"type": "string"},
        })
    };
    let containers = |description: &str| {
        json!({
            "type": "array",
            "description": description,
            "maxItems": OVERLAY_ENTRIES_MAX,
            "items": container(),
        })
    };
    let mut spec = json!({
        "type": "object",
        "description": "As in a Pod: nodeSelector, tolerations, affinity, volumes and the like.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "containers": containers(
                "The container \"agent\" is the agent itself; others run beside it and need an image."
            ),
        },
    });
    for field in rules::POD_FIELDS_RESERVED {
        spec["properties"][field.name] = reserved(field, "Boyle's own; leave it out.");
    }
    json_schema!({
        "type": "object",
        "properties": {
            "metadata": {
                "type": "object",
                "description": "Labels and annotations that the agents' pods get besides Boyle's.",
                "properties": {
                    "labels": words("Labels, for example {\"team\": \"chat\"}."),
                    "annotations": words("Annotations."),
                },
            },
            "spec": spec,
        },
    })
}

/// A field that is only looked for; bounded, so that looking is cheap.
fn reserved(field: &Reserved, description: &str) -> Value {
    let mut schema = json!({"type": field.kind, "description": description});
    match field.kind {
        "array" => {
            schema["maxItems"] = OVERLAY_ENTRIES_MAX.into();
            schema["items"] = match field.name {
                "ports" => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
                _ => json!({"type": "string"}),
            };
        }
        "string" => schema["maxLength"] = OVERLAY_NAME_LENGTH_MAX.into(),
        "object" => schema["x-kubernetes-preserve-unknown-fields"] = true.into(),
        _ => (),
    }
    schema
}

fn container() -> Value {
    let mut properties = Map::new();
    properties.insert(
        "name".to_owned(),
        json!({"type": "string", "description": "Its name.", "maxLength": OVERLAY_NAME_LENGTH_MAX}),
    );
    properties.insert(
        "image".to_owned(),
        json!({
            "type": "string",
            "description": "Image of a container beside the agent.",
            "maxLength": OVERLAY_NAME_LENGTH_MAX,
        }),
    );
    for field in rules::AGENT_FIELDS_RESERVED {
        let described = reserved(field, "Only for containers beside the agent.");
        properties.entry(field.name).or_insert(described);
    }
    properties.insert(
        "env".to_owned(),
        json!({
            "type": "array",
            "description": "Environment variables; those that begin with BOYLE_ are the operator's.",
            "maxItems": OVERLAY_ENTRIES_MAX,
            "items": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": true,
                "required": ["name"],
                "properties": {
                    "name": {
                        "type": "string",
                        "description": "Its name.",
                        "maxLength": OVERLAY_NAME_LENGTH_MAX,
                    },
                },
            },
        }),
    );
    json!({
        "type": "object",
        "required": ["name"],
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": properties,
    })
}

/// The list that all Kubernetes' objects have.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    let text = |description: &str, length: usize| json!({"type": "string", "description": description, "maxLength": length});
    let mut status = text("True, False or Unknown.", 7);
    status["enum"] = json!(["True", "False", "Unknown"]);
    let mut since = json!({"type": "string", "format": "date-time"});
    since["description"] = "When the status last changed.".into();
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": text("Accepted, Fits, Progressing, Available or Degraded.", 316),
                "status": status,
                "reason": text("Why, in one word for programs.", 1_024),
                "message": text("Why, for people: field, value and remedy.", crate::CONDITION_MESSAGE_LENGTH_MAX),
                "lastTransitionTime": since,
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The metadata.generation that it is about.",
                },
            },
        },
    })
}
