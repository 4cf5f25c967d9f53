//! Python with OpenAI's own client.

use crate::repository;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the Python tests and their pins are.
pub fn suite() -> PathBuf {
    repository().join("e2e/python")
}

/// The interpreter of a virtual environment with the pinned packages, made again whenever the pins change.
///
/// # Errors
/// When Python or its venv module is missing, or the packages cannot be installed.
pub fn environment() -> Result<PathBuf> {
    let folder = cache()?.join("e2e-python");
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

/// Cargo's target folder: the test program lies in `PROFILE/deps` below it.
fn cache() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    program
        .ancestors()
        .nth(3)
        .map(Path::to_path_buf)
        .context("the test program lies in no target folder")
}

fn passed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
