//! Processes of this machine, read from `/proc`.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Ends a process as a power cut would.
///
/// # Errors
/// When there is no such process, or it is not ours.
pub fn kill(pid: u32) -> Result<()> {
    signal(pid, libc::SIGKILL)
}

/// Asks a process to end, as `kill` and Kubernetes do.
///
/// # Errors
/// As [`kill`].
pub fn terminate(pid: u32) -> Result<()> {
    signal(pid, libc::SIGTERM)
}

/// Asks a process to end, as Ctrl-C does.
///
/// # Errors
/// As [`kill`].
pub fn interrupt(pid: u32) -> Result<()> {
    signal(pid, libc::SIGINT)
}

/// Stops a process where it is, as a machine does that swaps or a network that is cut.
///
/// # Errors
/// As [`kill`].
pub fn freeze(pid: u32) -> Result<()> {
    signal(pid, libc::SIGSTOP)
}

/// Lets a frozen process go on.
///
/// # Errors
/// As [`kill`].
pub fn thaw(pid: u32) -> Result<()> {
    signal(pid, libc::SIGCONT)
}

fn signal(pid: u32, signal: libc::c_int) -> Result<()> {
    let target = libc::pid_t::try_from(pid).context("a pid that is none")?;
    // SAFETY: kill takes two integers and touches no memory of ours.
    let sent = unsafe { libc::kill(target, signal) };
    if sent == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).with_context(|| format!("signal {signal} to pid {pid}"))
}

/// The process and everything that it started, directly or not.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn family(root: u32) -> Result<BTreeSet<u32>> {
    let parents = parents()?;
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        family.extend(
            parents
                .iter()
                .filter(|(_, parent)| family.contains(parent))
                .map(|(&pid, _)| pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            return Ok(family);
        }
    }
}

/// Those that still run; a dead one that nobody waited for does not.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn alive(pids: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
    let running = parents()?;
    Ok(pids.iter().copied().filter(|pid| running.contains_key(pid)).collect())
}

/// Pid → parent's pid of every process that is not a zombie.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may end while we look.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some((state, parent)) = state_and_parent(&stat)
            && state != "Z"
        {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// `12 (name with (anything)) S 1 …`
fn state_and_parent(stat: &str) -> Option<(&str, u32)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?, words.next()?.parse().ok()?))
}
