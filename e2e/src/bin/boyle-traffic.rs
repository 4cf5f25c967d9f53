//! Sends traffic with known answers to a router and reports what became of it.

use anyhow::{Context, Result};
use clap::Parser;
use e2e::client::{Client, served_model};
use e2e::traffic::{Lateness, Load, Reconnects, Target, Traffic, prompts};
use std::process::ExitCode;
use std::time::Duration;

/// Streams answers to questions whose answers it knows, and counts failed, cut, changed and late ones.
///
/// The answers are recorded first, while nothing happens, and compared with the evaluation set of tiny-r1. Exits with 1
/// when a client was harmed.
#[derive(Debug, Parser)]
#[command(name = "boyle-traffic")]
struct Arguments {
    /// Base URL of the router, with or without /v1.
    #[arg(default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Streams that are always open.
    #[arg(long, default_value_t = 20)]
    streams: usize,
    /// Further requests a second, at random moments, whatever became of earlier ones.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// How long; Ctrl-C ends it earlier.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Decides who asks what when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Different questions.
    #[arg(long, default_value_t = 24)]
    prompts: usize,
    /// An answer is late when its first token takes longer than this many seconds.
    #[arg(long, default_value_t = Lateness::default().first_token.as_secs())]
    late_first_token: u64,
    /// An answer is late when it stands still for longer than this many seconds.
    #[arg(long, default_value_t = Lateness::default().stall.as_secs())]
    late_stall: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let model = served_model(&arguments.url).await?;
    let client = Client::new(&arguments.url, &model);
    let prompts = prompts::record(&client, arguments.prompts).await.context("recording answers")?;
    let load = Load {
        streams: arguments.streams,
        rate: arguments.rate,
        seed: arguments.seed,
        lateness: Lateness {
            first_token: Duration::from_secs(arguments.late_first_token),
            stall: Duration::from_secs(arguments.late_stall),
        },
    };
    let traffic = Traffic::start(Target::new(&arguments.url, &model)?, prompts, load);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(arguments.seconds)) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    let report = traffic.stop().await;
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => println!("{report}"),
    }
    let unharmed = report.demand(Reconnects::Allowed).is_ok();
    Ok(if unharmed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
