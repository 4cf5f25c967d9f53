//! Finding the processes of a cluster again, and ending them.
//!
//! A process is ours when its environment carries the mark with the cluster's folder, which it got at its start and keeps
//! for life. No file with process ids is kept: after any crash the mark still tells the truth, and an id that another
//! process got since is never taken for ours.

use crate::process::MARK;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// The kernel ends a killed process as soon as it runs again; longer means that it hangs in a driver or file system.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

/// Why processes could not be found or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listing the machine's processes in /proc")]
    List(#[source] io::Error),
    #[error("ending process {pid}")]
    Kill { pid: u32, source: io::Error },
    #[error(
        "process {pid} still runs {} s after it was killed; look at /proc/{pid}/stack, then repeat",
        KILL_TIMEOUT.as_secs()
    )]
    Unkillable { pid: u32 },
}

/// A living process of ours. Holding it keeps its id from being given to another.
#[derive(Debug)]
pub struct Marked {
    pub pid: u32,
    pub part: String,
    handle: OwnedFd,
}

/// Every living process with the mark of the cluster in `folder`.
///
/// # Errors
/// When /proc cannot be listed.
pub fn find(folder: &Path) -> Result<Vec<Marked>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(Error::List)? {
        let name = entry.map_err(Error::List)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // The handle first: what is read afterwards is about the same process.
        let Ok(handle) = handle(pid) else { continue };
        if let Some(part) = part(pid, folder).filter(|_| !ended(&handle, Duration::ZERO)) {
            found.push(Marked { pid, part, handle });
        }
    }
    Ok(found)
}

/// The part of the cluster that a process belongs to; nothing when it is not ours, ended, or another user's.
fn part(pid: u32, folder: &Path) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut values = environment.split(|&byte| byte == 0).filter_map(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        OsString::from_vec(value.to_vec()).into_string().ok()
    });
    let value = values.next()?;
    let (marked, part) = value.rsplit_once(':')?;
    (Path::new(marked) == folder).then(|| part.to_owned())
}

/// Kills all of them at once and waits until each has ended.
///
/// # Errors
/// When one may not be killed or does not end.
pub fn kill(processes: &[Marked]) -> Result<(), Error> {
    for Marked { pid, handle, .. } in processes {
        // SAFETY: the descriptor is open, and no signal information is passed.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                handle.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        let error = io::Error::last_os_error();
        if sent == -1 && error.raw_os_error() != Some(libc::ESRCH) {
            return Err(Error::Kill { pid: *pid, source: error });
        }
    }
    let deadline = Instant::now() + KILL_TIMEOUT;
    for Marked { pid, handle, .. } in processes {
        if !ended(handle, deadline.saturating_duration_since(Instant::now())) {
            return Err(Error::Unkillable { pid: *pid });
        }
    }
    Ok(())
}

fn handle(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(descriptor) {
        // SAFETY: the kernel gave us this descriptor just now, and nobody else has it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the process ends within `limit`. One that ended and was not yet waited for by its parent counts.
fn ended(handle: &OwnedFd, limit: Duration) -> bool {
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let mut poll = libc::pollfd { fd: handle.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry, and the length says one.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) > 0 }
}

impl Marked {
    /// Whether it is process 1 of a machine: the last of its ids, one for each nested process namespace, is 1.
    pub fn is_init(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let ids: Vec<&str> = ids.unwrap_or_default().split_whitespace().collect();
        ids.len() > 1 && ids.last() == Some(&"1")
    }
}
