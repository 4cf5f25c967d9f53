//! What a ModelDeployment becomes: recorded objects, and laws that every one of them keeps.

mod golden;
mod hashes;
mod laws;
mod overlay;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use operator::render::{self, Group, PodWishes, Target};
use serde_json::Value;

/// Manifests, each with what it shows.
pub const CASES: &[(&str, &str)] = &[
    ("five-lines", include_str!("five-lines.input.yaml")),
    ("everything", include_str!("everything.input.yaml")),
    ("claim", include_str!("claim.input.yaml")),
    ("image-volume", include_str!("image-volume.input.yaml")),
    ("bucket", include_str!("bucket.input.yaml")),
];

/// The target of a manifest, as the controller makes it.
pub fn target(manifest: &str) -> Target {
    let deployment = crds::parse_yaml(manifest).unwrap();
    let request = deployment.to_request().unwrap();
    let agents = &deployment.spec.agents;
    Target {
        namespace: "models".to_owned(),
        owner: OwnerReference {
            api_version: crds::API_VERSION.to_owned(),
            kind: crds::KIND.to_owned(),
            name: deployment.metadata.name.clone(),
            uid: "11111111-2222-3333-4444-555555555555".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        request,
        image: "registry.example/boyle:0.1.0".to_owned(),
        operator_namespace: "boyle-system".to_owned(),
        pods: PodWishes::parse(agents.resources.as_ref(), agents.template.as_ref()).unwrap(),
        secret_name: None,
        endpoint: None,
    }
}

/// Every object of a target, as the API server gets it.
pub fn objects(target: &Target) -> Vec<Value> {
    let group = Group::of(target);
    let mut objects = vec![
        json(&render::agents_stateful_set(target, &group, 3)),
        json(&render::agents_service(target)),
        json(&render::router_deployment(target, 2)),
        json(&render::router_service(target)),
        json(&render::router_control_service(target)),
        json(&render::plan_config_map(target, &group, b"plan".to_vec())),
    ];
    objects.extend(render::service_accounts(target).iter().map(json));
    objects.extend(render::pod_disruption_budgets(target).iter().map(json));
    objects.extend(render::network_policies(target).iter().map(json));
    objects.push(json(&render::service_monitor(target, &<_>::default())));
    objects.push(json(&render::prometheus_rule(target, &<_>::default())));
    objects
}

pub fn json(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

/// The text at a JSON pointer.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
