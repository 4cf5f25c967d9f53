//! `boyle-agent`: one node agent as a process of its own.

use clap::Parser;
use node_agent::AgentArguments;
use tracing_subscriber::EnvFilter;

/// Serves one machine's share of a model.
#[derive(Debug, Parser)]
#[command(name = "boyle-agent", version)]
struct Command {
    #[command(flatten)]
    agent: AgentArguments,
}

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("BOYLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    node_agent::run(Command::parse().agent, &[])?;
    Ok(())
}
