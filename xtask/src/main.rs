//! `cargo xtask`: the one door to checking this repository. CI calls it and nothing else.

mod ci;
mod cluster;
mod counts;
mod crdgen;
mod e2e;
mod images;
mod process;
mod tidy;
mod tools;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use workspace::Workspace;

/// Checks of this repository: format, lints, licences, layout, tests, documentation.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every check that a change must pass, then print how long each took.
    ///
    /// A failing step does not stop the later ones; the first one's name and the command that repeats it
    /// stand at the end.
    Ci(ci::Options),
    /// Check dependency arrows, purity, file and function sizes, words, manifests and the changelog.
    Tidy,
    /// Build `boyle` and run the black-box tests against it, as processes and on a cluster with three nodes.
    E2e(e2e::Options),
    /// Write the CustomResourceDefinition and its reference page from the types in `crds`.
    Crdgen(crdgen::Options),
    /// Run a real Kubernetes on this machine, without Docker: to try Boyle out, and for its tests.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Make Boyle's container images, as tar files in OCI's layout, without Docker.
    ///
    /// The same sources give the same digest. They hold the program, the C library and certificates, and no shell.
    Image(images::Options),
    /// Install the pinned cargo tools that `ci` needs, outside the repository, when they are missing.
    Tools,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Ci(options) => ci::run(&workspace, &options),
        Command::Tidy => tidy::run(&workspace),
        Command::E2e(options) => e2e::run(&workspace, &options),
        Command::Cluster(command) => cluster::run(&workspace, &command),
        Command::Image(options) => images::run(&workspace, &options),
        Command::Crdgen(options) => crdgen::run(&workspace, &options),
        Command::Tools => tools::install(&workspace).map(|()| ExitCode::SUCCESS),
    }
}
