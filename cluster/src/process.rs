//! Processes of a cluster: starting them, finding them again, ending them.
//!
//! A process is ours when its environment carries the mark with the cluster's folder, which it got at its start and keeps
//! for life. No file with process ids is kept: after any crash the mark still tells the truth, and an id that another
//! process got since is never taken for ours.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

/// The variable with the cluster's folder, and the part of it that the process belongs to.
const MARK: &str = "BOYLE_CLUSTER";

/// Why a process could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("starting {program}")]
    Start { program: String, source: io::Error },
    #[error("the thread that starts processes is gone")]
    NoStarter,
}

/// What a process of ours belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The cluster's folder.
    pub folder: PathBuf,
    /// `control-plane`, `node2`.
    pub part: String,
}

impl Mark {
    fn value(&self) -> OsString {
        let mut value = self.folder.clone().into_os_string();
        value.push(":");
        value.push(&self.part);
        value
    }
}

/// Starts `command` with the mark in its environment. The kernel kills it when this process ends, however it ends.
///
/// # Errors
/// When it cannot be started.
pub fn start(mut command: Command, mark: &Mark) -> Result<Child, Error> {
    command.env(MARK, mark.value());
    let program = command.get_program().to_string_lossy().into_owned();
    start_with_us(command)?.map_err(|source| Error::Start { program, source })
}

type Job = (Command, Sender<io::Result<Child>>);

/// The kernel's "kill with parent" means the parent's thread, and a test's thread ends before its process. So one thread
/// that ends with the process starts them all.
fn start_with_us(mut command: Command) -> Result<io::Result<Child>, Error> {
    static STARTER: OnceLock<Sender<Job>> = OnceLock::new();
    let parent = std::process::id();
    // SAFETY: prctl and getppid are async-signal-safe and touch no memory of ours.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(io::Error::last_os_error());
            }
            // Died between the fork and the call above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    let starter = STARTER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                // Whoever asked waits for the reply.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = channel();
    starter.send((command, reply)).map_err(|_| Error::NoStarter)?;
    answer.recv().map_err(|_| Error::NoStarter)
}
