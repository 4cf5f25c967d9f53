//! The official Python client against a fresh deployment.

use anyhow::{Context, Result, ensure};
use e2e::deployment::{Deployment, MODEL, Shape};
use e2e::python;
use std::process::Command;

#[tokio::test]
async fn official_python_client_works() -> Result<()> {
    let interpreter = python::environment()?;
    let deployment = Deployment::start(Shape { agents: 3, copies: 2 }).await?;
    let status = Command::new(interpreter)
        .args(["-m", "pytest", "-p", "no:cacheprovider", "--color=no"])
        .arg(python::suite())
        .env("BOYLE_URL", deployment.url())
        .env("BOYLE_MODEL", MODEL)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .context("starting pytest")?;
    ensure!(status.success(), "pytest: {status}; boyle up printed:\n{}", deployment.log());
    Ok(())
}
