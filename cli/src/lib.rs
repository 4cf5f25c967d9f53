//! The command line of Boyle: runs a ModelDeployment as processes on this machine, shows it, talks to it.
//!
//! A library so that tests can drive the process substrate; `main` only parses the command line.

#[macro_use]
mod output;

pub mod arguments;
mod bench;
mod chat;
pub mod embedded;
mod local;
mod manifest;
pub mod memory;
mod oracle;
mod plan;
pub mod process;
mod progress;
pub mod resolve;
mod signals;
pub mod state;
mod status;
mod up;

use arguments::{Arguments, Command};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

/// Runs one command; errors go to standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    // For whatever speaks TLS in this process; it fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) => {
            note_line!("error: {}", describe(&*error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Up(arguments) => on_main_thread(up::run(arguments)),
        Command::Chat(arguments) => on_main_thread(chat::run(arguments)),
        Command::Status(arguments) => status::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Oracle(arguments) => oracle::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Agent(arguments) => {
            log("info");
            node_agent::run(arguments, &embedded::MODELS)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Router(arguments) => {
            log("info");
            Runtime::new()?.block_on(route(&arguments))
        }
    }
}

async fn route(arguments: &router::RouterArguments) -> anyhow::Result<ExitCode> {
    let mut signals = signals::Signals::listen()?;
    let shutdown = async move {
        signals.next().await;
    };
    router::run(arguments, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// Children live as long as the thread that starts them, so commands that start some run on the main thread alone.
fn on_main_thread(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    log("warn");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A prompt that waits for a line must not keep the process.
    runtime.shutdown_background();
    result
}

fn log(default: &str) {
    let filter = EnvFilter::try_from_env("BOYLE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    subscriber.with_writer(std::io::stderr).init();
}

/// An error and its causes in one line.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let layer = cause.to_string();
        if !text.ends_with(&layer) {
            text = format!("{text}: {layer}");
        }
        source = cause.source();
    }
    text
}
