//! The program under test.

use crate::repository;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// `BOYLE_BINARY`, or the one that cargo builds now, so that a stale one is never tested.
///
/// # Errors
/// When it does not build.
pub fn path() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BUILT.get_or_init(|| match std::env::var_os("BOYLE_BINARY") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    found.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--package",
            "cli",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(repository())
        .output()
        .context("starting cargo to build boyle")?;
    if !built.status.success() {
        bail!("boyle does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    let messages = String::from_utf8(built.stdout)?;
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = message.get("executable")?.as_str()?;
        path.ends_with("/boyle").then(|| PathBuf::from(path))
    });
    executable.context("cargo built no executable named boyle")
}
