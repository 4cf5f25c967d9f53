//! One child process: started, listened to, stopped.

use super::{ProcessConfig, ProcessError};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Time between SIGTERM and SIGKILL: streams that run may end in it.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a log's end that are searched for the reason of a death.
const TAIL_BYTES: u64 = 4096;
/// Lines of it that are shown.
const TAIL_LINES: usize = 4;

/// A started child. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    said: Arc<Mutex<Said>>,
    stop: Arc<Notify>,
    kill: Arc<Notify>,
    watcher: JoinHandle<()>,
}

/// What is known of a child.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// `listening on ADDRESS`
    pub listening: Option<SocketAddr>,
    /// `control on ADDRESS`
    pub control: Option<SocketAddr>,
    /// How it ended, and its last words; `None` while it runs.
    pub ended: Option<Ended>,
}

/// The end of a child.
#[derive(Clone, Debug)]
pub struct Ended {
    pub lived: Duration,
    pub cause: String,
}

impl Child {
    /// Starts `boyle ARGUMENTS`, its output going to the log `NAME.log`. News of it is told to `changed`.
    pub fn start(
        name: &str,
        arguments: &[String],
        config: &ProcessConfig,
        changed: &Arc<Notify>,
    ) -> Result<Self, ProcessError> {
        let path = config.directory.logs().join(format!("{name}.log"));
        let log_failed =
            |source| ProcessError::Log { name: name.to_owned(), path: path.clone(), source };
        let log = OpenOptions::new().create(true).append(true).open(&path).map_err(log_failed)?;
        let errors = log.try_clone().map_err(log_failed)?;
        let mut command = Command::new(&config.executable);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            // Ctrl-C in the terminal is for this process, which then stops its children in order.
            .process_group(0)
            .kill_on_drop(true);
        die_with_parent(&mut command);
        let start_failed = |source| {
            let executable = config.executable.clone();
            ProcessError::Start { name: name.to_owned(), executable, source }
        };
        let mut process = command.spawn().map_err(start_failed)?;
        let gone = || start_failed(std::io::Error::other("it ended while being started"));
        let pid = process.id().ok_or_else(gone)?;
        let lines = process.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        let said = Arc::new(Mutex::new(Said::default()));
        let (stop, kill) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let watcher = Watcher {
            process,
            pid,
            log,
            log_path: path,
            started: Instant::now(),
            said: Arc::clone(&said),
            stop: Arc::clone(&stop),
            kill: Arc::clone(&kill),
            changed: Arc::clone(changed),
        };
        let watcher = tokio::spawn(watcher.run(lines));
        Ok(Self { pid, said, stop, kill, watcher })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What is known of it now.
    pub fn said(&self) -> Said {
        lock(&self.said).clone()
    }

    /// Asks it to end; after a grace it is killed.
    pub fn request_stop(&self) {
        self.stop.notify_one();
    }

    /// Kills it: it may hang.
    pub fn request_kill(&self) {
        self.kill.notify_one();
    }

    /// Ends it and returns when it is gone; `Err` when not even SIGKILL ended it in time.
    pub async fn stop(self) -> Result<(), ()> {
        self.request_stop();
        match tokio::time::timeout(GRACE * 2, self.watcher).await {
            Ok(_) => Ok(()),
            Err(_) => Err(()),
        }
    }
}

/// Owns the process, so that its id stays its own until it was waited for.
struct Watcher {
    process: tokio::process::Child,
    pid: u32,
    log: File,
    log_path: PathBuf,
    started: Instant,
    said: Arc<Mutex<Said>>,
    stop: Arc<Notify>,
    kill: Arc<Notify>,
    changed: Arc<Notify>,
}

impl Watcher {
    async fn run(mut self, mut lines: Option<Lines<BufReader<ChildStdout>>>) {
        let mut kill_at: Option<Instant> = None;
        let exit = loop {
            tokio::select! {
                exit = self.process.wait() => break exit,
                line = next_line(&mut lines), if lines.is_some() => match line {
                    Some(line) => self.hear(&line),
                    None => lines = None,
                },
                () = self.stop.notified(), if kill_at.is_none() => {
                    terminate(self.pid);
                    kill_at = Some(Instant::now() + GRACE);
                }
                () = self.kill.notified() => self.kill(),
                () = sleep_until(kill_at), if kill_at.is_some() => {
                    kill_at = Some(Instant::now() + GRACE);
                    self.kill();
                }
            }
        };
        let cause = match exit {
            // Someone killed it: its last words have nothing to do with that.
            Ok(status) if status.code().is_none() => status.to_string(),
            Ok(status) => with_last_words(&status.to_string(), &self.log_path),
            Err(error) => format!("its end could not be waited for: {error}"),
        };
        lock(&self.said).ended = Some(Ended { lived: self.started.elapsed(), cause });
        self.changed.notify_one();
    }

    fn kill(&mut self) {
        if let Err(error) = self.process.start_kill() {
            tracing::warn!(pid = self.pid, %error, "kill");
        }
    }

    fn hear(&mut self, line: &str) {
        // A full disk must not stop the service; the log is for people.
        let _ = writeln!(self.log, "{line}");
        let mut said = lock(&self.said);
        if let Some(address) = announced(line, "listening on ") {
            said.listening = Some(address);
        } else if let Some(address) = announced(line, "control on ") {
            said.control = Some(address);
        } else {
            return;
        }
        drop(said);
        self.changed.notify_one();
    }
}

fn lock(said: &Mutex<Said>) -> std::sync::MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn announced(line: &str, prefix: &str) -> Option<SocketAddr> {
    line.strip_prefix(prefix)?.trim().parse().ok()
}

async fn next_line(lines: &mut Option<Lines<BufReader<ChildStdout>>>) -> Option<String> {
    match lines {
        Some(lines) => lines.next_line().await.ok().flatten(),
        None => None,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn with_last_words(exit: &str, log: &Path) -> String {
    let words = last_lines(log).unwrap_or_default();
    if words.is_empty() {
        return format!("{exit}; its log {} is empty", log.display());
    }
    format!("{exit}; the last lines of {}: {}", log.display(), words.join(" | "))
}

fn last_lines(log: &Path) -> std::io::Result<Vec<String>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    Ok(lines.iter().skip(from).map(|&line| line.to_owned()).collect())
}

fn terminate(pid: u32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    // SAFETY: kill takes plain numbers. The caller has not waited for the process, so the id is still its own.
    let result = unsafe { libc::kill(pid, libc::SIGTERM) };
    if result != 0 {
        tracing::warn!(pid, error = %std::io::Error::last_os_error(), "terminate");
    }
}

/// Lets the kernel kill the child when the thread that starts it ends, also by SIGKILL.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: prctl and getppid are async-signal-safe and take plain numbers.
        let (result, now) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // The parent may have died before the kernel was asked.
        if u32::try_from(now).ok() != Some(parent) {
            return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure calls only async-signal-safe functions and does not allocate.
    unsafe { command.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}
