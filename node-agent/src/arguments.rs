//! Flags and environment of the daemon.

use crate::embedded::EmbeddedModel;
use crate::fetch::{Space, available_bytes};
use crate::secret::Secret;
use proto::tls::{PlaintextReach, Security};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of the node agent; each has an environment variable, which the flag overrides.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArguments {
    /// Name of this agent in the plan.
    #[arg(long, env = "BOYLE_AGENT_ID")]
    pub agent_id: String,
    /// Address of the gRPC server. With port 0 the system chooses one; standard output tells it.
    #[arg(long, env = "BOYLE_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Address of the HTTP server with /livez, /readyz and /metrics; absent: there is none.
    #[arg(long, env = "BOYLE_HTTP_LISTEN")]
    pub http_listen: Option<SocketAddr>,
    /// Folder for what must outlive the process: the last assignment. It is made when it is missing.
    #[arg(long, env = "BOYLE_STATE_DIRECTORY")]
    pub state_directory: PathBuf,
    #[command(flatten)]
    pub model: ModelArguments,
    /// Memory that this agent may use, in bytes; absent: its cgroup's limit, or the machine's memory.
    #[arg(long, env = "BOYLE_MEMORY_BYTES")]
    pub memory_bytes: Option<u64>,
    /// After a stop signal, running sequences and peers that still call this agent's experts have this long.
    #[arg(long, env = "BOYLE_SHUTDOWN_SECONDS", default_value_t = SHUTDOWN_SECONDS)]
    pub shutdown_seconds: u64,
    #[command(flatten)]
    pub security: SecurityArguments,
}

/// How the daemon talks to the others.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SecurityArguments {
    /// Folder with tls.crt, tls.key and ca.crt: mutual TLS with peers, routers and the operator. Changed files are
    /// read again.
    #[arg(long, env = "BOYLE_TLS_DIRECTORY")]
    pub tls_directory: Option<PathBuf>,
    /// Let the gRPC server listen within other machines' reach without TLS: anybody there may call it.
    #[arg(long, env = "BOYLE_INSECURE_PLAINTEXT")]
    pub insecure_plaintext: bool,
}

impl SecurityArguments {
    /// Where the gRPC server may listen without TLS.
    pub fn plaintext_reach(&self) -> PlaintextReach {
        if self.insecure_plaintext { PlaintextReach::Anywhere } else { PlaintextReach::Loopback }
    }
}

/// Where the model comes from. Without a source the agent serves what its assignment's folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct ModelArguments {
    /// hf://owner/name, s3://bucket/path, pvc://claim/path, oci://reference, file:///folder or embedded://name.
    #[arg(long = "model-source", env = "BOYLE_MODEL_SOURCE")]
    pub source: Option<String>,
    /// Branch, tag or commit of an hf:// source.
    #[arg(long = "model-revision", env = "BOYLE_MODEL_REVISION")]
    pub revision: Option<String>,
    /// Folder for what is fetched; absent: `models` in the state directory.
    #[arg(long = "model-directory", env = "BOYLE_MODEL_DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Where the volume of a pvc:// or oci:// source is mounted.
    #[arg(long = "model-mount", env = "BOYLE_MODEL_MOUNT", default_value = MODEL_MOUNT)]
    pub mount: PathBuf,
    /// The hub's or the object store's URL, when it is not the public one.
    #[arg(long = "model-endpoint", env = "BOYLE_MODEL_ENDPOINT")]
    pub endpoint: Option<String>,
    /// Token for an hf:// source whose model is private or gated.
    #[arg(long = "hub-token", env = "HF_TOKEN", hide_env_values = true)]
    pub hub_token: Option<Secret>,
}

/// Where volumes with models are mounted unless something else is said.
const MODEL_MOUNT: &str = "/models";
/// On one machine a person waits for the end; in a cluster the operator gives more.
const SHUTDOWN_SECONDS: u64 = 2;

/// What the daemon needs besides its listeners.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub agent_id: String,
    pub state_directory: PathBuf,
    pub model: ModelArguments,
    /// Models inside the executable, for `embedded://`.
    pub embedded: &'static [EmbeddedModel],
    pub memory_bytes: Option<u64>,
    pub shutdown_grace: Duration,
    /// Tells how much a volume can take.
    pub space: Space,
    /// Of the gRPC server and of the links to peers.
    pub security: Security,
}

impl AgentConfig {
    /// An agent that waits for an assignment with a folder.
    pub fn new(agent_id: impl Into<String>, state_directory: impl Into<PathBuf>) -> Self {
        Self {
            agent_id: agent_id.into(),
            state_directory: state_directory.into(),
            model: ModelArguments::default(),
            embedded: &[],
            memory_bytes: None,
            shutdown_grace: Duration::from_secs(SHUTDOWN_SECONDS),
            space: available_bytes,
            security: Security::Plaintext,
        }
    }
}
