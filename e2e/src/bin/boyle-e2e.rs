//! Plays scenarios on a cluster. `cargo xtask e2e` makes the cluster and the images, and calls this.

use anyhow::{Result, bail};
use clap::Parser;
use cluster::{Cluster, Name};
use e2e::Thoroughness;
use e2e::scenario::{self, Choice, Images, Power};
use e2e::scenarios::ALL;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tells the second process of a run that it is inside the cluster's network already.
const INSIDE: &str = "BOYLE_E2E_INSIDE";

/// Plays scenarios and prints how each went.
#[derive(Debug, Parser)]
#[command(name = "boyle-e2e")]
struct Arguments {
    /// Scenarios to play; all when none is named.
    scenarios: Vec<String>,
    /// Only show what there is.
    #[arg(long)]
    list: bool,
    /// Only those that CI plays.
    #[arg(long)]
    short: bool,
    /// The long variants: more kills at more moments.
    #[arg(long)]
    full: bool,
    /// Decides the order and the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cluster of `cargo xtask cluster`. Without it, the one that KUBECONFIG names, and no machines.
    #[arg(long)]
    cluster: Option<String>,
    /// Where failures leave their evidence.
    #[arg(long, default_value = "target/e2e")]
    folder: PathBuf,
    #[arg(long, default_value = "boyle.local/boyle:e2e")]
    serving_image: String,
    #[arg(long, default_value = "boyle.local/boyle:e2e-next")]
    next_serving_image: String,
    #[arg(long, default_value = "boyle.local/boyle:e2e-broken")]
    broken_serving_image: String,
    #[arg(long, default_value = "boyle.local/boyle-operator:e2e")]
    operator_image: String,
    #[arg(long, default_value = "boyle.local/boyle-operator:e2e-next")]
    next_operator_image: String,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in ALL {
            println!("{:<18}{}", scenario.name, scenario.summary);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let power = match &arguments.cluster {
        None => Power::None,
        Some(name) => {
            let cluster = Cluster::open(&Name::parse(name)?)?;
            if std::env::var_os(INSIDE).is_none() {
                return inside(&cluster);
            }
            Power::Cluster(cluster)
        }
    };
    tokio::runtime::Runtime::new()?.block_on(play(arguments, power))
}

/// Starts this program again where Services can be reached and have names.
fn inside(cluster: &Cluster) -> Result<ExitCode> {
    let mut command = cluster.command(std::env::current_exe()?)?;
    let status = command.args(std::env::args_os().skip(1)).env(INSIDE, "1").status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn play(arguments: Arguments, power: Power) -> Result<ExitCode> {
    let choice = Choice {
        names: arguments.scenarios,
        short: arguments.short,
        seed: arguments.seed,
        thoroughness: if arguments.full { Thoroughness::Full } else { Thoroughness::Short },
        images: Images {
            serving: arguments.serving_image,
            next_serving: arguments.next_serving_image,
            broken_serving: arguments.broken_serving_image,
            operator: arguments.operator_image,
            next_operator: arguments.next_operator_image,
        },
        power,
        folder: arguments.folder,
    };
    println!("seed {}", choice.seed);
    let (outcomes, totals) = scenario::run(ALL, choice).await?;
    if outcomes.is_empty() {
        bail!("nothing was played");
    }
    println!("\n{:<18}{:>8}  result", "scenario", "seconds");
    for outcome in &outcomes {
        let result = if outcome.result.is_ok() { "passed" } else { "FAILED" };
        println!("{:<18}{:>8.0}  {result}", outcome.name, outcome.took.as_secs_f64());
    }
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
    println!("{totals}");
    println!("{} passed, {} failed", outcomes.len() - failed.len(), failed.len());
    if let Some(first) = failed.first() {
        let why = first.result.as_ref().err().cloned().unwrap_or_default();
        println!("\nfirst failure: {}: {}", first.name, why.lines().next().unwrap_or_default());
        println!("repeat it:     cargo xtask e2e {} --seed {}", first.name, arguments.seed);
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
