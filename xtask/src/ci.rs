//! Everything a change must pass, in one command.

use crate::counts::Counts;
use crate::workspace::Workspace;
use crate::{e2e, process, tidy, tools};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long fetching the advisory database may take before we call it unreachable.
const ADVISORIES_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub struct Options {
    /// Run only this step; may be given several times.
    #[arg(long = "step", value_name = "STEP")]
    steps: Vec<Step>,
}

/// The steps, in their order: quick ones first, those that share a build side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Install the pinned cargo tools if they are missing.
    Tools,
    /// Build Kubernetes for the tests, once for each version; the first time takes a quarter of an hour.
    ClusterTools,
    /// rustfmt changes nothing.
    Format,
    /// Arrows, purity, sizes, words, manifests, changelog.
    Tidy,
    /// Licences and sources of dependencies; advisories when their database can be reached.
    Deny,
    /// Every declared dependency is used.
    UnusedDependencies,
    /// No clippy warning.
    Clippy,
    /// Documentation builds without a warning.
    Docs,
    /// Unit, property and integration tests of every crate.
    Tests,
    /// Black-box tests of the built binary.
    E2e,
    /// A cluster with three nodes: tests of its machines, and the short scenarios of Boyle on it. Needs root.
    Cluster,
}

/// How one step went.
struct Outcome {
    step: Step,
    took: Duration,
    result: Result<()>,
}

/// Runs the steps and prints the summary.
///
/// # Errors
/// Never for a failing step; that is in the exit code.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let chosen =
        if options.steps.is_empty() { Step::value_variants() } else { options.steps.as_slice() };
    let mut counts = Counts::default();
    let mut outcomes = Vec::new();
    for &step in chosen {
        println!("\n==> {}: {}", name(step), summary(step));
        let started = Instant::now();
        let result = perform(step, workspace, &mut counts);
        if let Err(error) = &result {
            println!("FAILED {}: {error:#}", name(step));
        }
        outcomes.push(Outcome { step, took: started.elapsed(), result });
    }
    Ok(report(&outcomes, counts))
}

fn perform(step: Step, workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    match step {
        Step::Tools => tools::install(workspace),
        Step::ClusterTools => cluster_tools(),
        Step::Format => process::passed(workspace.cargo().args(["fmt", "--all", "--check"])),
        Step::Tidy => tidy::check(workspace),
        Step::Deny => deny(workspace),
        Step::UnusedDependencies => {
            // It takes `CARGO` for the sign that `cargo machete` started it, and then expects one word more.
            process::passed(workspace.program(tools::MACHETE.path()?).env_remove("CARGO"))
        }
        Step::Clippy => process::passed(
            workspace
                .cargo()
                .args(["clippy", "--workspace", "--all-targets", "--release"])
                .args(["--", "-D", "warnings"]),
        ),
        Step::Docs => process::passed(
            workspace
                .cargo()
                .args(["doc", "--workspace", "--no-deps", "--release"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        ),
        Step::Tests => tests(workspace, counts),
        Step::E2e => e2e::test_processes(workspace, &e2e::Options::all(), counts),
        Step::Cluster => on_cluster(workspace, counts),
    }
}

/// A machine that cannot have nodes passes, and says what it left out.
fn on_cluster(workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    if let Err(error) = cluster::packages::check().and_then(|()| cluster::packages::check_kernel())
    {
        println!("{}", "!".repeat(80));
        println!("!! NOTHING WAS TESTED ON NODES: {error}");
        println!("!! Repeat on a machine that can: cargo xtask ci --step cluster");
        println!("{}", "!".repeat(80));
        return Ok(());
    }
    e2e::test_cluster(workspace, &e2e::Options::all(), counts)
}

/// Every test finds them built: none would wait so long.
fn cluster_tools() -> Result<()> {
    for module in cluster::tools::ALL.iter().chain([&&cluster::tools::PROBE]) {
        println!("{}: {}", module.name, module.built()?.display());
    }
    Ok(())
}

/// Every crate's tests but the black-box ones, which have a step of their own. All packages are named each time, so
/// that dependencies are compiled with one set of features for all steps.
fn tests(workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    let kinds: [&[&str]; 2] = [&["--lib", "--bins", "--test", "it"], &["--doc"]];
    for kind in kinds {
        let mut command = workspace.cargo();
        command.args(["test", "--workspace", "--release", "--no-fail-fast"]).args(kind);
        process::watched(&mut command, |line| *counts += Counts::in_line(line))?;
    }
    Ok(())
}

/// Bans, licences and sources need no network. Advisories do: without it the step passes and says what it left out.
fn deny(workspace: &Workspace) -> Result<()> {
    let tool = tools::DENY.path()?;
    let mut offline = workspace.program(&tool);
    offline.args(["--workspace", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    process::passed(&mut offline)?;
    let mut fetch = workspace.program(&tool);
    fetch.args(["fetch", "db"]);
    if let Err(error) = process::passed_within(ADVISORIES_TIMEOUT, &mut fetch) {
        println!("{}", "!".repeat(80));
        println!(
            "!! ADVISORIES WERE NOT CHECKED: the database of known vulnerabilities is out of reach."
        );
        println!("!! ({error:#})");
        println!("!! Repeat with a network: cargo xtask ci --step deny");
        println!("{}", "!".repeat(80));
        return Ok(());
    }
    let mut advisories = workspace.program(&tool);
    advisories.args(["--workspace", "check", "--disable-fetch", "advisories"]);
    process::passed(&mut advisories)
}

fn report(outcomes: &[Outcome], counts: Counts) -> ExitCode {
    println!("\n{:<22}{:>8}  result", "step", "seconds");
    for outcome in outcomes {
        let result = if outcome.result.is_ok() { "ok" } else { "FAILED" };
        println!("{:<22}{:>8.1}  {result}", name(outcome.step), outcome.took.as_secs_f64());
    }
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
    println!("{:<22}{:>8.1}  {} failed", "all", total.as_secs_f64(), failed.len());
    if let Some(first) = failed.first() {
        println!("\nfirst failure: {}", name(first.step));
        println!("repeat it:     cargo xtask ci --step {}", name(first.step));
    }
    println!("\n{} passed, {} failed", counts.passed, counts.failed);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A step's name as the command line takes it.
fn name(step: Step) -> String {
    step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn summary(step: Step) -> String {
    let value = step.to_possible_value();
    value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
}
