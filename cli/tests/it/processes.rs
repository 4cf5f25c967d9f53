//! Looking at processes of this machine, and waiting for conditions.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// For anything that must happen; far above what it takes, so that only a hang reaches it.
pub const WAIT_MAX: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A `boyle` command whose state is in `root` and nowhere else.
pub fn boyle(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boyle"));
    command.args(arguments).env("BOYLE_STATE_ROOT", root).env_remove("BOYLE_LOG");
    command
}

/// Processes whose standard error is a file below `folder`: what `boyle` started for a deployment there.
pub fn writing_below(folder: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let errors = std::fs::read_link(entry.path().join("fd/2")).unwrap_or_default();
        if errors.starts_with(folder) {
            pids.push(pid);
        }
    }
    pids
}

/// Sends a signal by number or name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -s {name} {pid}: {sent}");
}

/// Looks until the condition gives a value.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let look = async {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if let Some(value) = condition() {
                return value;
            }
        }
    };
    match tokio::time::timeout(WAIT_MAX, look).await {
        Ok(value) => value,
        Err(_) => panic!("not within {} s: {what}", WAIT_MAX.as_secs()),
    }
}
