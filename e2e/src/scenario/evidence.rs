//! What is kept of a scenario that failed: objects, events, logs, plans, and the error itself.

use super::operator::SYSTEM;
use crate::kube;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Lines of each container's log.
const LOG_LINES: &str = "--tail=3000";

/// Writes everything that can be had into the folder; what cannot be had says so in its file.
///
/// # Errors
/// When the folder cannot be written.
pub async fn keep(folder: &Path, namespace: &str, error: &anyhow::Error) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::write(folder.join("error.txt"), format!("{error:?}\n"))?;
    for (file, arguments) in [
        ("nodes.txt", vec!["get", "nodes", "--output", "wide"]),
        ("pods.txt", vec!["get", "pods", "--all-namespaces", "--output", "wide"]),
        ("events.txt", vec!["get", "events", "--namespace", namespace, "--sort-by=.lastTimestamp"]),
        (
            "deployments.yaml",
            vec!["get", "modeldeployments", "--namespace", namespace, "--output", "yaml"],
        ),
        (
            "objects.yaml",
            vec![
                "get",
                "statefulsets,deployments,services,endpointslices,poddisruptionbudgets,pods",
                "--namespace",
                namespace,
                "--output",
                "yaml",
            ],
        ),
        ("plans.yaml", vec!["get", "configmaps", "--namespace", namespace, "--output", "yaml"]),
    ] {
        let text = kube::kubectl(&arguments).await.unwrap_or_else(|error| format!("{error:#}"));
        fs::write(folder.join(file), text)?;
    }
    for namespace in [namespace, SYSTEM] {
        logs(folder, namespace).await?;
    }
    Ok(())
}

async fn logs(folder: &Path, namespace: &str) -> Result<()> {
    let Ok(pods) = kube::json(&["get", "pods", "--namespace", namespace]).await else {
        return Ok(());
    };
    for pod in pods["items"].as_array().into_iter().flatten() {
        let name = super::name_of(pod);
        for (when, further) in [("", &[][..]), (".previous", &["--previous"])] {
            let arguments =
                ["logs", "--namespace", namespace, &name, "--all-containers", LOG_LINES];
            let said = kube::kubectl(&[&arguments[..], further].concat()).await;
            // Most pods have no earlier container.
            if let Ok(text) = said {
                fs::write(folder.join(format!("{name}{when}.log")), text)?;
            }
        }
    }
    Ok(())
}

/// The newest warnings of a namespace, for the message of a failure: often the first cause.
pub async fn warnings(namespace: &str) -> String {
    const SHOWN: usize = 8;
    let arguments = ["get", "events", "--namespace", namespace, "--field-selector=type=Warning"];
    let Ok(events) = kube::json(&arguments).await else { return String::new() };
    let events = events["items"].as_array().cloned().unwrap_or_default();
    let text = |event: &Value, pointer: &str| {
        event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let lines = events.iter().map(|event| {
        let object = text(event, "/involvedObject/name");
        format!("  {object}: {} {}", text(event, "/reason"), text(event, "/message"))
    });
    lines.take(SHOWN).collect::<Vec<_>>().join("\n")
}
