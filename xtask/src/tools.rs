//! The cargo tools that `ci` needs, pinned, in a cache of their own: neither the repository nor the user's own
//! installation changes.

use crate::process;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// A tool, the version that CI runs, and how it is built.
#[derive(Debug)]
pub struct Tool {
    pub name: &'static str,
    version: &'static str,
    build_arguments: &'static [&'static str],
}

/// Licences, sources and known vulnerabilities of dependencies.
pub const DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", build_arguments: &["--no-default-features"] };

/// Dependencies that nothing uses.
pub const MACHETE: Tool = Tool { name: "cargo-machete", version: "0.9.2", build_arguments: &[] };

/// Installs what is missing.
///
/// # Errors
/// When a tool cannot be downloaded or built.
pub fn install(workspace: &Workspace) -> Result<()> {
    for tool in [&MACHETE, &DENY] {
        let path = tool.path()?;
        if path.is_file() {
            println!("{} {} is at {}", tool.name, tool.version, path.display());
            continue;
        }
        println!(
            "building {} {} (once; it is kept in {})",
            tool.name,
            tool.version,
            path.display()
        );
        let mut command = workspace.cargo();
        command.args(["install", "--locked", "--quiet", "--version", tool.version, tool.name]);
        command.args(tool.build_arguments).arg("--root").arg(tool.folder()?);
        command.env("CARGO_TARGET_DIR", cache()?.join("build"));
        process::passed(&mut command)?;
    }
    Ok(())
}

impl Tool {
    /// Where the pinned version lies once it is installed.
    ///
    /// # Errors
    /// When there is no home folder.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join("bin").join(self.name))
    }

    /// One folder for each version, so that another checkout's pin never replaces ours.
    fn folder(&self) -> Result<PathBuf> {
        Ok(cache()?.join(format!("{}-{}", self.name, self.version)))
    }
}

/// `BOYLE_TOOLS_DIR`, or `boyle-tools` in the user's cache folder.
fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("BOYLE_TOOLS_DIR") {
        return Ok(folder.into());
    }
    let caches = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir()
            .context("no home folder to keep cargo tools in; set BOYLE_TOOLS_DIR")?
            .join(".cache"),
    };
    Ok(caches.join("boyle-tools"))
}
