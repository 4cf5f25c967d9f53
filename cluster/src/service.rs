//! A long-running program of a cluster, as values: what it is called and what it is told. And its log.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Lines of a log that an error shows: the reason a server gives before it ends is among the last few.
const TAIL_LINES: usize = 8;

/// Characters of such a line: servers log whole objects.
const TAIL_WIDTH: usize = 300;

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Also names its log.
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

impl Service {
    /// The command, with its output appended to the log in `logs`.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn command(&self, logs: &Path) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(log(logs, self.name))?;
        let mut command = Command::new(&self.program);
        command.env("PATH", self.path()).current_dir("/");
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

impl Service {
    /// Programs find those that they start beside themselves, or where root's are, whatever our caller's PATH is.
    fn path(&self) -> OsString {
        let beside = self.program.parent().map(Path::as_os_str).unwrap_or_default();
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        [beside, OsStr::new(system)].join(OsStr::new(":"))
    }
}

/// Where a service's log is.
pub fn log(logs: &Path, name: &str) -> PathBuf {
    logs.join(format!("{name}.log"))
}

/// The end of a service's log, for an error's message.
pub fn log_tail(logs: &Path, name: &str) -> String {
    tail(&fs::read_to_string(log(logs, name)).unwrap_or_default())
}

/// The last lines of a text, shortened.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
    last.map(|line| format!("  {}\n", line.chars().take(TAIL_WIDTH).collect::<String>())).collect()
}
