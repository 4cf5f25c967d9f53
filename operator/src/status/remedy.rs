//! What kubelets, schedulers and agents say → a typed reason, and a message that names the field of the spec, its value
//! and what to do. Pure.
//!
//! Their words are not ours to choose, so this looks for the few that matter; what it does not know is passed on whole.

use crds::{ConditionReason, ModelDeploymentSpec};

/// What a condition says.
pub type Told = (ConditionReason, String);

/// Why a container cannot be made from what its pod names.
pub fn configuration(spec: &ModelDeploymentSpec, pod: &str, words: &str) -> Told {
    if is_storage(words) {
        return (ConditionReason::StorageFull, storage(pod, words));
    }
    let secret = spec.model.secret_name.as_deref().filter(|name| words.contains(*name));
    match secret {
        Some(name) if words.contains("find key") => (
            ConditionReason::SecretKeyMissing,
            format!("spec.model.secretName: {name:?}: {pod}: {words}; add the key to the Secret"),
        ),
        Some(name) => (
            ConditionReason::SecretNotFound,
            format!(
                "spec.model.secretName: {name:?}: {pod}: {words}; create the Secret in this namespace, or name another"
            ),
        ),
        None => (
            ConditionReason::Blocked,
            format!("{pod}: {words}; correct what spec.agents.template names, or make it"),
        ),
    }
}

/// Whether a disk is full; that is no fault of the spec.
pub fn is_storage(words: &str) -> bool {
    let words = words.to_lowercase();
    ["no space left", "ephemeral-storage", "disk quota"].iter().any(|it| words.contains(it))
}

/// A pod whose disk is full.
pub fn storage(pod: &str, words: &str) -> String {
    format!(
        "{pod}: {words}; free the node's disk, or give the agents a larger volume in spec.agents.template"
    )
}

/// A claim that a pod waits for; `None` when the scheduler waits for something else.
pub fn claim(spec: &ModelDeploymentSpec, words: &str) -> Option<Told> {
    if !words.contains("persistentvolumeclaim") || !words.contains("not found") {
        return None;
    }
    let source = &spec.model.source;
    let field = if source.starts_with("pvc://") {
        format!("spec.model.source: {source:?}")
    } else {
        "spec.agents.template".to_owned()
    };
    let message = format!("{field}: {words}; create the claim in this namespace, or name another");
    Some((ConditionReason::ClaimNotFound, message))
}

/// What an agent says of the model; `None` when the agent alone is the trouble.
pub fn source(spec: &ModelDeploymentSpec, words: &str) -> Option<Told> {
    let lower = words.to_lowercase();
    let has = |some: &[&str]| some.iter().any(|it| lower.contains(it));
    let model = &spec.model;
    let reason = if has(&["token", "401", "403", "denied", "gated", "forbidden"]) {
        let name = model.secret_name.as_deref().unwrap_or_default();
        let message = format!("spec.model.secretName: {name:?}: {words}");
        return Some((ConditionReason::AccessDenied, message));
    } else if has(&["architecture", "model_type"]) {
        ConditionReason::ArchitectureUnknown
    } else if has(&["404", "not found", "no such file", "not there", "no folder", "does not exist"])
        || has(&["not in this executable"])
    {
        ConditionReason::ModelNotFound
    } else if has(&["truncated", "safetensors", "checksum", "corrupt", "tensor", "config.json"]) {
        ConditionReason::ModelCorrupt
    } else if has(&["connect", "timed out", "dns", "resolve", "does not answer", "endpoint"]) {
        let (field, value) = match &model.endpoint {
            Some(endpoint) => ("spec.model.endpoint", endpoint),
            None => ("spec.model.source", &model.source),
        };
        let message =
            format!("{field}: {value:?}: {words}; correct it, or let the agents reach it");
        return Some((ConditionReason::SourceUnreachable, message));
    } else {
        return None;
    };
    let remedy = match reason {
        ConditionReason::ArchitectureUnknown => "name a model that Boyle can run",
        ConditionReason::ModelCorrupt => "replace the files there, or name another source",
        _ => "put the model there, or name another source",
    };
    let message = format!("spec.model.source: {:?}: {words}; {remedy}", model.source);
    Some((reason, message))
}

/// The planner's arithmetic when the memory does not hold the model.
pub fn memory(spec: &ModelDeploymentSpec, words: &str) -> String {
    let agents = &spec.agents;
    let most = agents.max.unwrap_or(agents.min);
    format!(
        "spec.agents: at most {most}: {words}; raise spec.agents.max or resources.limits.memory"
    )
}

/// Fewer hosts than copies, or too little room for them.
pub fn copies(spec: &ModelDeploymentSpec, words: &str) -> String {
    let copies = spec.experts.copies;
    format!("spec.experts.copies: {copies}: {words}; add nodes or agents, or lower it")
}

/// An image that cannot be had.
pub fn image(pod: &str, image: &str, words: &str) -> String {
    format!(
        "spec.image: {image:?}: {pod} cannot pull it: {words}; write an image that the nodes can pull"
    )
}
