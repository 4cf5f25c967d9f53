//! The program: flags → settings → [`operator::run`].

use anyhow::Context;
use clap::Parser;
use operator::run::Operator;
use operator::settings::{Arguments, Command};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments).await,
        Command::Check(arguments) => check(arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What fails early has no log yet.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says on standard output what was found.
async fn check(arguments: operator::settings::CheckArguments) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::infer().await.context("find the API server")?;
    let client = kube::Client::try_from(config).context("make a client for the API server")?;
    let scope = &arguments.watch_namespace;
    println!("{}", operator::check::check(client, &arguments.namespace, scope).await?);
    Ok(())
}

async fn run(arguments: operator::settings::RunArguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(arguments.log()).context("BOYLE_LOG")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Fails only when one is installed already, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::infer().await.context("find the API server")?;
    let settings = arguments.into_settings()?;
    let operator = Operator::new(settings, config, &tower::layer::util::Identity::new())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    operator.run(shutdown).await?;
    Ok(())
}
