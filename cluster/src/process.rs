//! Starting the processes of a cluster, each with the mark by which [`crate::marks`] finds it again.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

/// The variable with the cluster's folder, and the part of it that the process belongs to.
pub const MARK: &str = "BOYLE_CLUSTER";

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("starting {program}")]
    Start { program: String, source: io::Error },
    #[error("the thread that starts processes is gone")]
    NoStarter,
}

/// How long a started process may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The kernel kills it when this process ends, however it ends.
    WithUs,
    /// Until somebody kills it; it has its own session, so no terminal does.
    UntilKilled,
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

/// Starts `command` with the mark in its environment.
///
/// # Errors
/// When it cannot be started.
pub fn start(mut command: Command, mark: &Mark, lifetime: Lifetime) -> Result<Child, Error> {
    command.env(MARK, mark.value());
    let program = command.get_program().to_string_lossy().into_owned();
    let started = match lifetime {
        Lifetime::WithUs => start_with_us(command)?,
        Lifetime::UntilKilled => {
            // SAFETY: setsid is async-signal-safe and touches no memory of ours.
            unsafe {
                command.pre_exec(|| match libc::setsid() {
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                });
            }
            command.spawn()
        }
    };
    started.map_err(|source| Error::Start { program, source })
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

/// Whether a process has ended.
#[derive(Debug, Clone, Default)]
pub struct Ended(Arc<AtomicBool>);

impl Ended {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Waits for a child in a thread of its own for as long as this process lives: one that ended and that nobody waited for
/// would keep its machine's process 1 from ending.
pub fn watch(mut child: Child) -> Ended {
    let ended = Ended::default();
    let setter = ended.clone();
    std::thread::spawn(move || {
        // An error means that there is nothing to wait for.
        let _ = child.wait();
        setter.0.store(true, Ordering::Release);
    });
    ended
}
