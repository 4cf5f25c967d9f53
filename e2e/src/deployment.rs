//! `boyle up` in a folder of its own, and whatever happens, nothing of it left behind.

use crate::client::Client;
use crate::status::Status;
use crate::{binary, processes, waiting};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// For starting, or for replacing an agent, on a busy machine of two cores.
const WHOLE_DEADLINE: Duration = Duration::from_secs(120);

/// For stopping: the router's patience with running requests, and some.
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// Lines of each process's log in a failed test's message: enough to see how it ended.
const LOG_LINES_SHOWN: usize = 40;

/// The embedded model's name.
pub const MODEL: &str = "tiny-r1";

/// How many agents, and how many of them hold each expert.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub agents: usize,
    pub copies: usize,
}

/// A running `boyle up`.
#[derive(Debug)]
pub struct Deployment {
    process: Child,
    home: TempDir,
    url: String,
    _alone: MutexGuard<'static, ()>,
}

/// One deployment at a time: each wants every core, and tests of one program run side by side.
static ALONE: Mutex<()> = Mutex::const_new(());

impl Deployment {
    /// Starts one and waits until it is whole.
    ///
    /// # Errors
    /// When it ends or is not whole in time; with what it printed.
    pub async fn start(shape: Shape) -> Result<Self> {
        let alone = ALONE.lock().await;
        let home = TempDir::new()?;
        let log = File::create(home.path().join("up.log"))?;
        let process = boyle(home.path())?
            .args(["up", "--port", "0"])
            .args(["--agents", &shape.agents.to_string(), "--copies", &shape.copies.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting boyle up")?;
        let mut deployment = Self { process, home, url: String::new(), _alone: alone };
        let status = deployment.whole().await?;
        deployment.url = status.url.context("a status without a URL")?;
        Ok(deployment)
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where clients send requests.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url, MODEL)
    }

    /// A further `boyle` command beside this deployment.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn command(&self) -> Result<Command> {
        boyle(self.home.path())
    }

    /// What `boyle up` and its children printed so far; of each the end.
    pub fn log(&self) -> String {
        let mut logs = vec![self.home.path().join("up.log")];
        let deployments = self.home.path().join(".local/state/boyle/deployments");
        for deployment in entries(&deployments) {
            logs.extend(entries(&deployment.join("logs")));
        }
        let shown = logs.iter().map(|path| format!("--- {}\n{}", path.display(), tail(path)));
        shown.collect::<Vec<_>>().join("\n")
    }

    /// What `boyle status` says now.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn status(&self) -> Result<Status> {
        let done =
            self.command()?.args(["status", "--json"]).output().context("starting boyle status")?;
        ensure!(done.status.success(), "boyle status: {}", String::from_utf8_lossy(&done.stderr));
        let printed = String::from_utf8(done.stdout)?;
        serde_json::from_str(&printed).with_context(|| format!("reading the status {printed}"))
    }

    /// Waits until every agent and every copy is there.
    ///
    /// # Errors
    /// When it is not so in time, or the process ended; with what it printed.
    pub async fn whole(&mut self) -> Result<Status> {
        self.until("a whole deployment", Status::is_whole).await
    }

    /// Waits until `wanted` holds of the status.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let looked = waiting::until(what, WHOLE_DEADLINE, async || {
            let ended = self.process.try_wait()?;
            let status = self.status();
            match (ended, status) {
                (Some(ended), _) => Ok(Err(ended)),
                (None, Ok(status)) if wanted(&status) => Ok(Ok(status)),
                (None, Ok(status)) => bail!("{status:?}"),
                (None, Err(error)) => Err(error),
            }
        });
        match looked.await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(ended)) => bail!("boyle up ended ({ended}):\n{}", self.log()),
            Err(error) => Err(error.context(format!("boyle up printed:\n{}", self.log()))),
        }
    }

    /// Kills one agent's process and returns which pid it had.
    ///
    /// # Errors
    /// When there is no such agent.
    pub fn kill_agent(&self, agent: &str) -> Result<u32> {
        let pids = self.status()?.pids();
        let pid = *pids.get(agent).with_context(|| format!("no agent {agent} among {pids:?}"))?;
        processes::kill(pid)?;
        Ok(pid)
    }

    /// Sends a signal with `send`, waits for the end, and returns the exit status and the processes left behind.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(
        mut self,
        send: fn(u32) -> Result<()>,
    ) -> Result<(ExitStatus, BTreeSet<u32>)> {
        let family = processes::family(self.pid())?;
        ensure!(family.len() > 2, "a deployment without agents and router: {family:?}");
        send(self.pid())?;
        let ended = waiting::until("boyle up to end", STOP_DEADLINE, async || {
            self.process.try_wait()?.context("it still runs")
        });
        let status = ended.await.with_context(|| self.log())?;
        Ok((status, processes::alive(&family)?))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // Each is killed by its own pid: a failed test must not leave agents behind, whatever broke.
        for pid in processes::family(self.process.id()).unwrap_or_default() {
            let _ = processes::kill(pid);
        }
        let _ = self.process.wait();
    }
}

/// What a folder holds, sorted; nothing when it is not there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

/// A `boyle` command whose state lies in `home`.
///
/// # Errors
/// When there is no binary.
pub fn boyle(home: &Path) -> Result<Command> {
    let mut command = Command::new(binary::path()?);
    command.current_dir(home).env("HOME", home);
    for variable in
        ["XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "BOYLE_STATE_ROOT"]
    {
        command.env_remove(variable);
    }
    Ok(command)
}
