//! The black-box tests: build what users get, hand it to them. First as processes, then on a cluster with nodes.

use crate::counts::Counts;
use crate::images::{self, Variant};
use crate::process;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cluster::{Cluster, Name, Options as ClusterOptions};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub struct Options {
    /// Scenarios to play on the cluster (`--list` shows them), or a part of tests' names.
    names: Vec<String>,
    /// Run only this part; may be given several times. With scenarios' names, it is the scenarios.
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<Part>,
    /// Show the scenarios.
    #[arg(long)]
    list: bool,
    /// Run the long variants: the whole evaluation set, more kills at more moments, long scenarios.
    #[arg(long)]
    full: bool,
    /// Decides the order of scenarios, and their moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Play scenarios on the cluster of this kubeconfig instead, from inside its network; those that need machines are
    /// left out. The images must be there: `boyle-e2e --help` has their names.
    #[arg(long, value_name = "FILE", conflicts_with = "keep")]
    kubeconfig: Option<PathBuf>,
    /// Leave the scenarios' cluster running; the next run takes it as it is, with new images.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Deployments as processes of this machine.
    Processes,
    /// The cluster's own machines.
    Nodes,
    /// Deployments on a cluster.
    Scenarios,
}

/// The test targets, each of one package.
const PROCESSES: &str = "black_box";
const NODES: &str = "nodes";

/// The cluster on which scenarios play.
const CLUSTER: &str = "e2e";

/// Runs what was chosen, its output shown.
///
/// # Errors
/// When a build fails or a test does.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if options.list {
        process::passed(&mut player(workspace, &["--list"])?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut counts = Counts::default();
    let outcome = test_processes(workspace, options, &mut counts)
        .and_then(|()| test_cluster(workspace, options, &mut counts));
    println!("{} passed, {} failed", counts.passed, counts.failed);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The tests of processes, if they are chosen, adding to `counts`.
///
/// # Errors
/// When the build fails or a test does.
pub fn test_processes(workspace: &Workspace, options: &Options, counts: &mut Counts) -> Result<()> {
    if !options.chosen(workspace)?.contains(&Part::Processes) {
        return Ok(());
    }
    // Cargo builds the binary for the integration tests of its package, with the features that those steps share.
    let build =
        ["test", "--workspace", "--release", "--no-run", "--test", "it", "--test", PROCESSES];
    process::passed(workspace.cargo().args(build))?;
    let binary = workspace.metadata()?.target_directory.join("release/boyle");
    let mut command = tests(workspace, PROCESSES, options);
    command.env("BOYLE_BINARY", binary);
    process::watched(&mut command, |line| *counts += Counts::in_line(line))
}

/// The tests that need nodes, if they are chosen, adding to `counts`.
///
/// # Errors
/// Without root or Debian's packages; when the build fails or a test does.
pub fn test_cluster(workspace: &Workspace, options: &Options, counts: &mut Counts) -> Result<()> {
    let chosen = options.chosen(workspace)?;
    if chosen.contains(&Part::Nodes) {
        let mut command = tests(workspace, NODES, options);
        process::watched(&mut command, |line| *counts += Counts::in_line(line))?;
    }
    if chosen.contains(&Part::Scenarios) {
        play(workspace, options, counts)?;
    }
    Ok(())
}

fn tests(workspace: &Workspace, target: &str, options: &Options) -> std::process::Command {
    let mut command = workspace.cargo();
    command.args(["test", "--workspace", "--release", "--test", target, "--"]).args(&options.names);
    // Shown as it happens, one after another: each test starts something that wants every core.
    command.args(["--nocapture", "--test-threads=1"]);
    // Failures say what they saw; where in the test's own futures is noise.
    command.env("RUST_LIB_BACKTRACE", "0");
    if options.full {
        command.env("BOYLE_E2E", "full");
    }
    command
}

/// Plays scenarios on a cluster that has every image they ask for.
fn play(workspace: &Workspace, options: &Options, counts: &mut Counts) -> Result<()> {
    if let Some(kubeconfig) = &options.kubeconfig {
        let kubeconfig = kubeconfig.canonicalize().context("--kubeconfig")?;
        return play_on(workspace, options, &Place::Elsewhere { kubeconfig }, counts);
    }
    let images = images::make_variants(workspace, VARIANTS)?;
    let name = Name::parse(CLUSTER)?;
    let kept = Cluster::open(&name).ok().filter(|cluster| cluster.is_whole().unwrap_or(false));
    let cluster = match kept {
        Some(cluster) => cluster,
        None => {
            // A run that was killed left a part of one.
            Cluster::down(&name)?;
            Cluster::up(&ClusterOptions { name: name.clone(), nodes: 3, gpus: 8 })?
        }
    };
    let played = images
        .iter()
        .try_for_each(|image| cluster.load(&image.tar).map_err(anyhow::Error::from))
        .and_then(|()| play_on(workspace, options, &Place::Here, counts));
    if options.keep {
        println!("cluster {name} is left running; end it: cargo xtask cluster down --name {name}");
    } else {
        Cluster::down(&name)?;
    }
    played
}

/// The images by the names that scenarios know them by.
const VARIANTS: &[(&str, Variant)] =
    &[("e2e", Variant::Whole), ("e2e-next", Variant::Whole), ("e2e-broken", Variant::Broken)];

/// Where scenarios play.
enum Place {
    /// On [`CLUSTER`].
    Here,
    /// On a cluster that somebody else runs.
    Elsewhere { kubeconfig: PathBuf },
}

fn play_on(
    workspace: &Workspace,
    options: &Options,
    place: &Place,
    counts: &mut Counts,
) -> Result<()> {
    let mut command = player(workspace, &["--seed", &options.seed.to_string()])?;
    match place {
        Place::Here => command.args(["--cluster", CLUSTER]),
        Place::Elsewhere { kubeconfig } => command.env("KUBECONFIG", kubeconfig),
    };
    command.args(&options.names);
    match (options.full, options.names.is_empty()) {
        (true, _) => command.arg("--full"),
        (false, true) => command.arg("--short"),
        (false, false) => &mut command,
    };
    process::watched(&mut command, |line| *counts += Counts::in_line(line))
}

/// The program that plays scenarios.
fn player(workspace: &Workspace, arguments: &[&str]) -> Result<std::process::Command> {
    process::passed(&mut workspace.build_programs())?;
    let program: PathBuf = workspace.metadata()?.target_directory.join("release/boyle-e2e");
    let mut command = workspace.program(program);
    command.args(arguments);
    Ok(command)
}

impl Options {
    /// What CI runs: every test, the short variants.
    pub fn all() -> Self {
        Self {
            names: Vec::new(),
            parts: Vec::new(),
            list: false,
            full: false,
            seed: 1,
            keep: false,
            kubeconfig: None,
        }
    }

    fn chosen(&self, workspace: &Workspace) -> Result<Vec<Part>> {
        if !self.parts.is_empty() {
            return Ok(self.parts.clone());
        }
        if self.kubeconfig.is_some() {
            return Ok(vec![Part::Scenarios]);
        }
        if self.names.is_empty() {
            return Ok(Part::value_variants().to_vec());
        }
        let listed =
            process::output(&mut player(workspace, &["--list"])?).context("listing scenarios")?;
        let known =
            |name: &String| listed.lines().any(|line| line.split_whitespace().next() == Some(name));
        Ok(if self.names.iter().all(known) {
            vec![Part::Scenarios]
        } else {
            vec![Part::Processes, Part::Nodes]
        })
    }
}
