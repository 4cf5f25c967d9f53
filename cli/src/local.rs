//! A deployment that this process runs on this machine.

use crate::process::{ProcessConfig, ProcessSubstrate};
use crate::resolve::Resolved;
use crate::state::{Lock, StateError};
use anyhow::Context as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use substrate::{DeploymentStatus, Reconciler};
use tokio::sync::watch;

/// The wished port cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("port {port} is taken; choose another one with --port, or any free one with --port 0")]
    Taken { port: u16 },
    #[error("port {port} cannot be listened on; choose another one with --port")]
    Unusable {
        port: u16,
        #[source]
        source: std::io::Error,
    },
}

/// Agents and router as children, kept alive as long as [`LocalDeployment::drive`] runs.
#[derive(Debug)]
pub struct LocalDeployment {
    reconciler: Reconciler<ProcessSubstrate>,
    statuses: watch::Sender<DeploymentStatus>,
    _lock: Lock,
}

impl LocalDeployment {
    /// Takes the deployment's lock; first of all, so that a second `up` is told of the first one.
    ///
    /// # Errors
    /// [`StateError::Running`] names who holds it.
    pub fn lock(resolved: &Resolved) -> Result<Lock, StateError> {
        resolved.directory.lock()
    }

    /// Starts the children and returns while they come up.
    ///
    /// # Errors
    /// When the port is taken, the model does not fit, or the state directory cannot be used.
    pub async fn start(resolved: Resolved, lock: Lock, port: u16) -> anyhow::Result<Self> {
        check_port(port)?;
        let goal = resolved.goal()?;
        resolved.plan(&resolved.spec(&goal)?).context("the model does not fit this machine")?;
        let substrate = ProcessSubstrate::new(ProcessConfig {
            executable: own_executable()?,
            directory: resolved.directory.clone(),
            port,
            agent_memory_bytes: resolved.agent_memory_bytes,
        });
        let mut reconciler = Reconciler::start(substrate, goal).await?;
        let first = reconciler.reconcile().await;
        Ok(Self { reconciler, statuses: watch::Sender::new(first), _lock: lock })
    }

    /// Every new status.
    pub fn statuses(&self) -> watch::Receiver<DeploymentStatus> {
        self.statuses.subscribe()
    }

    /// Keeps the deployment as it should be until `work` is done.
    pub async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            () = self.reconciler.run(&self.statuses) => std::future::pending().await,
            done = work => done,
        }
    }

    /// Stops the children and returns when they are gone.
    ///
    /// # Errors
    /// When one cannot be stopped.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.reconciler.stop().await.context("stop the deployment")
    }
}

/// Finds out before any work is done; the router binds it for good a moment later.
fn check_port(port: u16) -> Result<(), PortError> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(PortError::Taken { port })
        }
        Err(source) => Err(PortError::Unusable { port, source }),
    }
}

/// The running executable, also after its file was replaced by a newer build.
fn own_executable() -> anyhow::Result<PathBuf> {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() {
        return Ok(itself);
    }
    std::env::current_exe().context("find the boyle executable")
}
