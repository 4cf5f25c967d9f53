//! The files that are generated from the custom resource's types: the program that writes them is the types' own crate.

use crate::process;
use crate::workspace::Workspace;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub struct Options {
    /// Write nothing; fail when a file is stale.
    #[arg(long)]
    check: bool,
}

/// Builds the generator and runs it.
///
/// # Errors
/// When the build fails, a file cannot be written, or one is stale.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    // All packages are named, so that dependencies are compiled with the features of every other step.
    let build = ["build", "--workspace", "--release", "--bin", "crdgen"];
    process::passed(workspace.cargo().args(build))?;
    let program = workspace.metadata()?.target_directory.join("release/crdgen");
    let mut command = workspace.program(program);
    if options.check {
        command.arg("--check");
    }
    process::passed(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
