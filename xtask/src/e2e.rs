//! The black-box tests: build the binary, hand it to them.

use crate::counts::Counts;
use crate::process;
use crate::workspace::Workspace;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub struct Options {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Run the long variants: the whole evaluation set, more kills at more moments.
    #[arg(long)]
    full: bool,
}

/// The test target, which no other package has.
const TARGET: &str = "black_box";

/// Builds and runs them with their output shown.
///
/// # Errors
/// When the build fails or a test does.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut counts = Counts::default();
    let outcome = test(workspace, options, &mut counts);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What CI runs, adding to `counts`.
///
/// # Errors
/// When the build fails or a test does.
pub fn test(workspace: &Workspace, options: &Options, counts: &mut Counts) -> Result<()> {
    // Cargo builds the binary for the integration tests of its package, with the features that those steps share.
    let build = ["test", "--workspace", "--release", "--no-run", "--test", "it", "--test", TARGET];
    process::passed(workspace.cargo().args(build))?;
    let binary = workspace.metadata()?.target_directory.join("release/boyle");
    let mut command = workspace.cargo();
    command
        .args(["test", "--workspace", "--release", "--test", TARGET, "--"])
        .args(&options.filter);
    // Shown as it happens, one after another: each test starts a deployment that wants every core.
    command.args(["--nocapture", "--test-threads=1"]);
    // Failures say what they saw; where in the test's own futures is noise.
    command.env("BOYLE_BINARY", binary).env("RUST_LIB_BACKTRACE", "0");
    if options.full {
        command.env("BOYLE_E2E", "full");
    }
    process::watched(&mut command, |line| *counts += Counts::in_line(line))
}

impl Options {
    /// What CI runs: every test, the short variants.
    pub fn all() -> Self {
        Self { filter: None, full: false }
    }
}
