//! The official Python client against a fresh deployment.

use anyhow::{Context, Result, ensure};
use e2e::deployment::{Deployment, MODEL, Shape};
use e2e::repository;
use std::path::{Path, PathBuf};
use std::process::Command;

#[tokio::test]
async fn official_python_client_works() -> Result<()> {
    let python = environment()?;
    let deployment = Deployment::start(Shape { agents: 3, copies: 2 }).await?;
    let status = Command::new(python)
        .args(["-m", "pytest", "-p", "no:cacheprovider", "--color=no"])
        .arg(suite())
        .env("BOYLE_URL", deployment.url())
        .env("BOYLE_MODEL", MODEL)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .context("starting pytest")?;
    ensure!(status.success(), "pytest: {status}; boyle up printed:\n{}", deployment.log());
    Ok(())
}

fn suite() -> PathBuf {
    repository().join("e2e/python")
}

/// A virtual environment with the pinned packages, made again whenever the pins change.
fn environment() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = folder.join("bin/python");
    let pins = suite().join("requirements.txt");
    let wanted = std::fs::read_to_string(&pins)?;
    // Written last, so that an environment that was interrupted half way is made again.
    let installed = folder.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    let mut create = Command::new("python3");
    passed(create.args(["-m", "venv", "--clear"]).arg(&folder))
        .context("python3 with its venv module is needed (Debian: apt-get install python3-venv)")?;
    let mut install = Command::new(&python);
    passed(install.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&pins))?;
    std::fs::write(&installed, wanted)?;
    Ok(python)
}

fn passed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
