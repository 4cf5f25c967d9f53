//! ModelDeployments of tests, and looking at them.

use super::wait::until;
use crds::ModelDeployment;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// The namespace of all tests' deployments; each test has a control plane of its own.
pub const NAMESPACE: &str = "default";

/// A deployment of the model inside the program.
pub fn embedded(name: &str, spec: Value) -> ModelDeployment {
    let mut all = json!({"model": {"source": "embedded://tiny-r1"}, "agents": {"min": 1}});
    merge(&mut all, spec);
    serde_json::from_value(json!({
        "apiVersion": "boyle.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": all,
    }))
    .expect("a ModelDeployment")
}

pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// The API of deployments.
pub fn api(client: &Client) -> Api<ModelDeployment> {
    Api::namespaced(client.clone(), NAMESPACE)
}

pub async fn create(client: &Client, deployment: &ModelDeployment) {
    api(client).create(&PostParams::default(), deployment).await.expect("the deployment is taken");
}

pub async fn patch(client: &Client, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    api(client).patch(name, &PatchParams::default(), &patch).await.expect("the patch is taken");
}

/// Waits until the deployment looks like that, and returns it.
pub async fn until_is(
    client: &Client,
    name: &str,
    what: &str,
    holds: impl Fn(&ModelDeployment) -> bool,
) -> ModelDeployment {
    until(what, || async {
        let deployment = api(client).get(name).await.map_err(|error| error.to_string())?;
        if holds(&deployment) {
            return Ok(deployment);
        }
        Err(serde_json::to_string_pretty(&deployment.status).unwrap_or_default())
    })
    .await
}

/// A condition's status and reason: `True Serving`.
pub fn condition(deployment: &ModelDeployment, name: &str) -> String {
    let conditions = deployment.status.iter().flat_map(|status| &status.conditions);
    let mut found = conditions.filter(|condition| condition.type_ == name);
    found.next().map(|it| format!("{} {}", it.status, it.reason)).unwrap_or_default()
}

pub fn phase(deployment: &ModelDeployment) -> String {
    let phase = deployment.status.as_ref().and_then(|status| status.phase);
    phase.map(|phase| phase.to_string()).unwrap_or_default()
}
