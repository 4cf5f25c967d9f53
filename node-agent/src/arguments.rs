//! Flags and environment of the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Flags of the node agent; each has an environment variable, which the flag overrides.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArguments {
    /// Name of this agent in the plan.
    #[arg(long, env = "BOYLE_AGENT_ID")]
    pub agent_id: String,
    /// Address of the gRPC server. With port 0 the system chooses one; standard output tells it.
    #[arg(long, env = "BOYLE_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Folder for what must outlive the process: the last assignment. It is made when it is missing.
    #[arg(long, env = "BOYLE_STATE_DIRECTORY")]
    pub state_directory: PathBuf,
}

/// What the daemon needs besides its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    pub agent_id: String,
    pub state_directory: PathBuf,
}
