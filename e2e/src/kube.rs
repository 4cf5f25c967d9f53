//! kubectl and helm, as a person calls them: found on the PATH, told the cluster by KUBECONFIG.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// For one command that does not wait by itself.
const COMMAND_WAIT: Duration = Duration::from_secs(60);
/// For commands that wait for something: installs, drains, deletions.
const LONG_WAIT: Duration = Duration::from_secs(600);

/// Runs kubectl and returns what it printed.
///
/// # Errors
/// When it fails, with its own words, or takes too long.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments, None, COMMAND_WAIT).await
}

/// As [`kubectl`], for commands that wait by themselves.
///
/// # Errors
/// As [`kubectl`].
pub async fn kubectl_waiting(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments, None, LONG_WAIT).await
}

/// As [`kubectl`] with `--output json`.
///
/// # Errors
/// As [`kubectl`].
pub async fn json(arguments: &[&str]) -> Result<Value> {
    let printed = kubectl(&[arguments, &["--output", "json"]].concat()).await?;
    serde_json::from_str(&printed).context("reading kubectl's JSON")
}

/// Server-side, so that a field that does not exist or may not be there is refused.
///
/// # Errors
/// As [`kubectl`].
pub async fn apply(namespace: &str, object: &Value) -> Result<String> {
    let arguments = ["apply", "--server-side", "--namespace", namespace, "--filename", "-"];
    run("kubectl", &arguments, Some(object.to_string()), COMMAND_WAIT).await
}

/// Changes fields of an object, as JSON merge patch.
///
/// # Errors
/// As [`kubectl`].
pub async fn patch(namespace: &str, object: &str, change: &Value) -> Result<String> {
    let change = change.to_string();
    kubectl(&["patch", "--namespace", namespace, object, "--type", "merge", "--patch", &change])
        .await
}

/// Runs helm and returns what it printed.
///
/// # Errors
/// As [`kubectl`].
pub async fn helm(arguments: &[&str]) -> Result<String> {
    run("helm", arguments, None, LONG_WAIT).await
}

/// Runs any program and returns what it printed.
///
/// # Errors
/// As [`kubectl`].
pub async fn run(
    program: &str,
    arguments: &[&str],
    input: Option<String>,
    wait: Duration,
) -> Result<String> {
    let shown = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).await.with_context(shown)?;
    }
    let done = timeout(wait, child.wait_with_output());
    let done =
        done.await.with_context(|| format!("{} took over {} s", shown(), wait.as_secs()))??;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{} ({}): {}", shown(), done.status, said.trim_end());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
