//! Where `boyle` keeps what outlives a command: unpacked models, and for each deployment its plan, status and logs.
//!
//! ```text
//! ROOT/models/…                     unpacked embedded models, shared
//! ROOT/deployments/NAME/lock        held (flock) while `boyle up` or `boyle chat` runs the deployment
//! ROOT/deployments/NAME/running.json  who holds it, and where its API is
//! ROOT/deployments/NAME/plan.json   the last plan
//! ROOT/deployments/NAME/status.json the latest status
//! ROOT/deployments/NAME/logs/       one file for each child process
//! ROOT/deployments/NAME/agents/     the agents' own state
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whoever only looks whether a deployment runs holds the lock for microseconds; these tries tell that from a
/// deployment that does run.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A file or folder of the state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "no state directory: neither XDG_STATE_HOME nor HOME is set; give one with --state-directory"
    )]
    NoHome,
    #[error("{verb} {}", path.display())]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not what this version of boyle writes; remove it and try again", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "{deployment} runs already: {holder}; ask it with `boyle chat`, look at it with `boyle status`, or stop \
         it with Ctrl-C there"
    )]
    Running { deployment: String, holder: Holder },
}

/// Who holds a deployment's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    Known(Running),
    /// It has only just started and not said yet who it is.
    Unknown,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(Running { pid, port: Some(port), .. }) => {
                write!(f, "pid {pid} serves it on port {port}")
            }
            Self::Known(Running { pid, port: None, .. }) => write!(f, "pid {pid} is starting it"),
            Self::Unknown => f.write_str("another boyle is starting it"),
        }
    }
}

/// `running.json`: the process that runs a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    pub pid: u32,
    /// Port of the HTTP API once it is known.
    pub port: Option<u16>,
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct StateRoot(PathBuf);

impl StateRoot {
    /// The given folder, or the user's own: `$XDG_STATE_HOME/boyle`, `~/.local/state/boyle`.
    ///
    /// # Errors
    /// [`StateError::NoHome`] when there is none, or why the current folder cannot be told.
    pub fn resolve(given: Option<&Path>) -> Result<Self, StateError> {
        let root = match given {
            Some(path) => path.to_owned(),
            None => default_root().ok_or(StateError::NoHome)?,
        };
        // Children get the path too; it must not depend on a working directory.
        let absolute = std::path::absolute(&root);
        absolute.map(Self).map_err(|source| StateError::File {
            verb: "resolve",
            path: root,
            source,
        })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Folder of unpacked models.
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// One deployment's folder; the name is a checked resource name, so it is a safe file name.
    pub fn deployment(&self, name: &str) -> DeploymentDirectory {
        DeploymentDirectory { name: name.to_owned(), path: self.0.join("deployments").join(name) }
    }

    /// Every deployment that has ever been started here, ascending by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn deployments(&self) -> Result<Vec<DeploymentDirectory>, StateError> {
        let path = self.0.join("deployments");
        let failed = |source| StateError::File { verb: "list", path: path.clone(), source };
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names.iter().map(|name| self.deployment(name)).collect())
    }
}

fn default_root() -> Option<PathBuf> {
    let absolute =
        |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    match absolute("XDG_STATE_HOME") {
        Some(state) => Some(state.join("boyle")),
        None => absolute("HOME").map(|home| home.join(".local/state/boyle")),
    }
}

/// One deployment's folder.
#[derive(Clone, Debug)]
pub struct DeploymentDirectory {
    name: String,
    path: PathBuf,
}

/// The right to run a deployment. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl DeploymentDirectory {
    /// The deployment's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of the children's logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Folder of the agents' own state.
    pub fn agents(&self) -> PathBuf {
        self.path.join("agents")
    }

    /// Takes the lock and forgets what an earlier run left, except for its plan.
    ///
    /// # Errors
    /// [`StateError::Running`] when another process holds it.
    pub fn lock(&self) -> Result<Lock, StateError> {
        std::fs::create_dir_all(&self.path).map_err(|source| self.failed("create", "", source))?;
        let file = self.lock_file().map_err(|source| self.failed("open", "lock", source))?;
        let mut tries = LOCK_TRIES;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    let deployment = self.name.clone();
                    return Err(StateError::Running { deployment, holder: self.holder() });
                }
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", "lock", error)),
            }
        }
        for stale in ["running.json", "status.json"] {
            remove(std::fs::remove_file(self.path.join(stale)), &self.path.join(stale))?;
        }
        for stale in [self.agents(), self.logs()] {
            remove(std::fs::remove_dir_all(&stale), &stale)?;
            std::fs::create_dir_all(&stale).map_err(|source| self.failed("create", "", source))?;
        }
        Ok(Lock { _file: file })
    }

    /// Who runs the deployment at the moment; `None` when nobody does.
    ///
    /// # Errors
    /// When the lock file cannot be looked at.
    pub fn running(&self) -> Result<Option<Holder>, StateError> {
        if !self.path.join("lock").exists() {
            return Ok(None);
        }
        let file = self.lock_file().map_err(|source| self.failed("open", "lock", source))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(self.holder())),
            Err(TryLockError::Error(source)) => Err(self.failed("lock", "lock", source)),
        }
    }

    /// Says who runs it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_running(&self, running: &Running) -> Result<(), StateError> {
        self.write("running.json", running)
    }

    /// Reads one of the folder's JSON files; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or has another shape.
    pub fn read<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, StateError> {
        let path = self.path.join(file);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed("read", file, source)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| StateError::Json { path, source })
    }

    /// How long ago one of the folder's files was written; `None` when the file or the clock does not tell.
    pub fn age(&self, file: &str) -> Option<Duration> {
        std::fs::metadata(self.path.join(file)).ok()?.modified().ok()?.elapsed().ok()
    }

    /// Replaces one of the folder's JSON files; readers see the old or the new one, never a part.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write<T: Serialize>(&self, file: &str, value: &T) -> Result<(), StateError> {
        let path = self.path.join(file);
        let text = serde_json::to_vec_pretty(value)
            .map_err(|source| StateError::Json { path: path.clone(), source })?;
        let written = tempfile::NamedTempFile::new_in(&self.path).and_then(|mut temporary| {
            temporary.write_all(&text)?;
            temporary.persist(&path).map_err(|error| error.error).map(drop)
        });
        written.map_err(|source| self.failed("write", file, source))
    }

    fn holder(&self) -> Holder {
        match self.read::<Running>("running.json") {
            Ok(Some(running)) => Holder::Known(running),
            Ok(None) | Err(_) => Holder::Unknown,
        }
    }

    fn lock_file(&self) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(self.path.join("lock"))
    }

    fn failed(&self, verb: &'static str, file: &str, source: std::io::Error) -> StateError {
        StateError::File { verb, path: self.path.join(file), source }
    }
}

/// What is not there need not be removed.
fn remove(removed: std::io::Result<()>, path: &Path) -> Result<(), StateError> {
    match removed {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StateError::File { verb: "remove", path: path.to_owned(), source }),
    }
}
