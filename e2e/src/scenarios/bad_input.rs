//! What a person gets wrong: the answer names the field, the value and the remedy.

use crate::scenario::{Component, Deployment, condition};
use crate::scenario::{Length, Needs, Scenario, Scene};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

pub const SCENARIO: Scenario = Scenario {
    name: "bad-input",
    summary: "wrong resources are refused or explained, and nothing crash-loops",
    needs: Needs::Nothing,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

/// For a condition that explains; some wait for a pod to be created or started.
const SEEN_WAIT: Duration = Duration::from_secs(90);
/// What tells a person something.
const CONDITIONS: [&str; 5] = ["Accepted", "Fits", "Progressing", "Available", "Degraded"];

async fn play(scene: &Scene) -> Result<()> {
    for (spec, words) in refused() {
        let answer = scene.applied(spec.clone()).await;
        let Err(error) = answer else { anyhow::bail!("{spec} was taken") };
        let said = format!("{error:#}");
        for word in words {
            ensure!(said.contains(word), "{spec}: {word:?} is missing in: {said}");
        }
    }
    for (name, spec, words) in explained() {
        println!("-- {name}");
        explain(scene, name, spec, words).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// What the API server takes for an answer right away.
fn refused() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!({"agents": {"min": 5, "max": 2}}), &["agents", "max"]),
        (json!({"agents": {"min": -1}}), &["agents.min"]),
        (json!({"experts": {"copies": 9}}), &["experts.copies"]),
        (json!({"agents": {"min": 1}, "experts": {"copies": 3}}), &["experts.copies"]),
        (json!({"model": {"source": "ftp://somewhere/model"}}), &["model.source", "hf://"]),
        (
            json!({"model": {"source": "embedded://tiny-r1", "revision": "x"}}),
            &["revision", "hf://"],
        ),
        (
            json!({"model": {"source": "embedded://tiny-r1", "contextLength": 3}}),
            &["contextLength"],
        ),
        (json!({"agents": {"min": 1, "scaleDownDelay": "5 minutes"}}), &["scaleDownDelay"]),
        (json!({"agnets": {"min": 1}}), &["agnets"]),
    ]
}

/// What only turns out later.
fn explained() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let hub = |secret: &str| json!({"source": "hf://boyle/nothing", "secretName": secret});
    vec![
        ("secret", json!({"model": hub("absent-secret")}), &["absent-secret"]),
        ("volume", json!({"model": {"source": "pvc://absent-claim/"}}), &["absent-claim"]),
        (
            "memory",
            json!({"agents": {"min": 1, "resources": {"limits": {"memory": "8Mi"}}}}),
            &["spec.agents"],
        ),
        ("hosts", json!({"agents": {"min": 4}, "experts": {"copies": 4}}), &["share a host"]),
    ]
}

async fn explain(scene: &Scene, name: &str, spec: Value, words: &[&str]) -> Result<()> {
    let mut whole = json!({
        "model": {"source": "embedded://tiny-r1"}, "agents": {"min": 1}, "router": {"min": 1},
    });
    if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(spec.clone());
    }
    let deployment = Deployment::apply(&scene.namespace, name, whole).await?;
    let told = |object: &Value| {
        CONDITIONS.iter().any(|kind| {
            let (_, _, message) = condition(object, kind);
            words.iter().all(|word| message.contains(word))
        })
    };
    let object = deployment.until("a condition that explains", SEEN_WAIT, told).await?;
    for kind in CONDITIONS {
        let (status, reason, message) = condition(&object, kind);
        println!("{kind}={status} {reason}: {message}");
    }
    for pod in deployment.pods(Component::Agent).await? {
        ensure!(pod.restarts == 0, "{} crash-loops", pod.name);
    }
    deployment.delete().await
}
