//! A machine of a cluster: network, mount, process and host name namespaces around a process 1.
//!
//! Power-off is the death of process 1: the kernel then kills every process inside, unmounts what was mounted there and
//! removes its network. Nothing of it can be left over, whatever was going on.
//!
//! Inside, the file system is this machine's, except that /run, /var/log, /var/lib/kubelet and /var/lib/cni are its own.

use crate::marks::{self, Marked};
use crate::process::{self, Ended, Lifetime, Mark};
use crate::service::Service;
use std::ffi::{CString, NulError};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a machine could not be started or entered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{part} is not running; `cargo xtask cluster list` says what is")]
    NotRunning { part: String },
    #[error("opening the {kind} namespace of {part}")]
    Namespace { part: String, kind: &'static str, source: io::Error },
    #[error("creating {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("a path with a zero byte")]
    Path(#[from] NulError),
    #[error(
        "making the namespaces of {part}; it takes root on a Linux with network, mount and process namespaces"
    )]
    Namespaces { part: String, source: io::Error },
    #[error("a process of {part}")]
    Process { part: String, source: process::Error },
    #[error("looking for the machine's process 1")]
    Marks(#[from] marks::Error),
    #[error("the thread that starts processes of {part} ended early")]
    Thread { part: String },
}

/// Folders that kubelet and network plugins have built in; each machine mounts its own there. They must exist.
const MOUNT_POINTS: [&str; 2] = ["/var/lib/kubelet", "/var/lib/cni"];

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    mark: Mark,
    init: Marked,
}

impl Machine {
    /// Starts one that does nothing yet. `kubelet` is what is mounted at /var/lib/kubelet.
    ///
    /// # Errors
    /// Without root, mostly.
    pub fn boot(mark: &Mark, pause: &Path, kubelet: &Path) -> Result<Self, Error> {
        for path in MOUNT_POINTS.iter().map(Path::new).chain([kubelet]) {
            fs::create_dir_all(path)
                .map_err(|source| Error::Create { path: path.to_path_buf(), source })?;
        }
        let mut command = Command::new(pause);
        command.arg(mark.folder.join(&mark.part)).current_dir("/");
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let setup = Setup::new(&mark.part, kubelet)?;
        // SAFETY: `Setup::perform` makes system calls with what was prepared before the fork, and allocates nothing.
        unsafe { command.pre_exec(move || setup.perform()) };
        // SAFETY: unshare takes no pointer.
        let apart = || checked(unsafe { libc::unshare(libc::CLONE_NEWPID) });
        start_apart(command, mark, apart)?;
        Self::find(mark)
    }

    /// The machine that a mark belongs to.
    ///
    /// # Errors
    /// When it is not running.
    pub fn find(mark: &Mark) -> Result<Self, Error> {
        let processes = marks::find(&mark.folder)?.into_iter();
        let mut inits = processes.filter(|process| process.part == mark.part && process.is_init());
        let init = inits.next().ok_or_else(|| Error::NotRunning { part: mark.part.clone() })?;
        Ok(Self { mark: mark.clone(), init })
    }

    /// Process 1, as this machine's other processes see it.
    pub fn pid(&self) -> u32 {
        self.init.pid
    }

    /// A path of the machine as we see it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid()))
    }

    /// Kills everything on it, at once.
    ///
    /// # Errors
    /// When it does not end.
    pub fn power_off(self) -> Result<(), Error> {
        Ok(marks::kill(&[self.init])?)
    }

    /// Starts a service inside; its log lies outside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, service: &Service, logs: &Path) -> Result<Ended, Error> {
        let part = &self.mark.part;
        let command = service.command(logs).map_err(|source| Error::Create {
            path: crate::service::log(logs, service.name),
            source,
        })?;
        self.start_command(command).map_err(|error| match error {
            Error::Process { source, .. } => Error::Process { part: part.clone(), source },
            other => other,
        })
    }

    fn start_command(&self, mut command: Command) -> Result<Ended, Error> {
        let processes = self.namespace("pid")?;
        self.enter(&mut command)?;
        let apart = move || enter(processes.as_raw_fd(), libc::CLONE_NEWPID);
        start_apart(command, &self.mark, apart)
    }

    /// Makes `command` run in the machine's file system and network, though not among its processes.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn enter(&self, command: &mut Command) -> Result<(), Error> {
        let namespaces = [
            (self.namespace("net")?, libc::CLONE_NEWNET),
            (self.namespace("uts")?, libc::CLONE_NEWUTS),
            (self.namespace("mnt")?, libc::CLONE_NEWNS),
        ];
        // SAFETY: setns on open descriptors, no allocation.
        unsafe {
            command.pre_exec(move || {
                namespaces
                    .iter()
                    .try_for_each(|(namespace, kind)| enter(namespace.as_raw_fd(), *kind))
            });
        }
        Ok(())
    }

    /// Makes `command` run in the machine's network and nothing else of it.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn enter_network(&self, command: &mut Command) -> Result<(), Error> {
        let network = self.namespace("net")?;
        // SAFETY: setns on an open descriptor, no allocation.
        unsafe { command.pre_exec(move || enter(network.as_raw_fd(), libc::CLONE_NEWNET)) };
        Ok(())
    }

    /// Puts the calling thread into the machine's network.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn join_network(&self) -> Result<(), Error> {
        let network = self.namespace("net")?;
        enter(network.as_raw_fd(), libc::CLONE_NEWNET).map_err(|source| Error::Namespace {
            part: self.mark.part.clone(),
            kind: "net",
            source,
        })
    }

    /// As [`Self::enter_network`], with another /etc/resolv.conf, so that names of the cluster resolve.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn enter_network_and_names(
        &self,
        command: &mut Command,
        resolver: &Path,
    ) -> Result<(), Error> {
        let network = self.namespace("net")?;
        let mounts = [Mount::private()?, Mount::bind(resolver, "/etc/resolv.conf")?];
        // SAFETY: system calls with what was prepared before the fork, no allocation.
        unsafe {
            command.pre_exec(move || {
                enter(network.as_raw_fd(), libc::CLONE_NEWNET)?;
                checked(libc::unshare(libc::CLONE_NEWNS))?;
                mounts.iter().try_for_each(Mount::perform)
            });
        }
        Ok(())
    }

    fn namespace(&self, kind: &'static str) -> Result<OwnedFd, Error> {
        let opened = File::open(format!("/proc/{}/ns/{kind}", self.pid()));
        opened.map(OwnedFd::from).map_err(|source| Error::Namespace {
            part: self.mark.part.clone(),
            kind,
            source,
        })
    }
}

/// Starts `command` from a thread that `apart` has put into another process namespace: the kernel puts children there,
/// never the caller.
fn start_apart(
    command: Command,
    mark: &Mark,
    apart: impl FnOnce() -> io::Result<()> + Send,
) -> Result<Ended, Error> {
    let part = || mark.part.clone();
    let child = std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            apart().map_err(|source| Error::Namespaces { part: part(), source })?;
            process::start(command, mark, Lifetime::UntilKilled)
                .map_err(|source| Error::Process { part: part(), source })
        });
        starter.join().unwrap_or_else(|_| Err(Error::Thread { part: part() }))
    })?;
    Ok(process::watch(child))
}

/// A call of mount(2), its arguments made before the fork.
#[derive(Debug)]
struct Mount {
    source: CString,
    target: CString,
    kind: CString,
    flags: libc::c_ulong,
}

impl Mount {
    fn new(source: &Path, target: &str, kind: &str, flags: libc::c_ulong) -> Result<Self, Error> {
        Ok(Self {
            source: CString::new(source.as_os_str().as_bytes())?,
            target: CString::new(target)?,
            kind: CString::new(kind)?,
            flags,
        })
    }

    fn private() -> Result<Self, Error> {
        Self::new(Path::new("none"), "/", "none", libc::MS_REC | libc::MS_PRIVATE)
    }

    fn bind(source: &Path, target: &str) -> Result<Self, Error> {
        Self::new(source, target, "none", libc::MS_BIND | libc::MS_REC)
    }

    fn temporary(target: &str) -> Result<Self, Error> {
        Self::new(Path::new("tmpfs"), target, "tmpfs", libc::MS_NOSUID | libc::MS_NODEV)
    }

    fn perform(&self) -> io::Result<()> {
        let Self { source, target, kind, flags } = self;
        // SAFETY: three strings that end with a zero and live long enough; no data.
        checked(unsafe {
            libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, std::ptr::null())
        })
    }
}

/// What process 1 does between fork and exec.
#[derive(Debug)]
struct Setup {
    name: CString,
    mounts: Vec<Mount>,
    forwarding: CString,
}

impl Setup {
    fn new(name: &str, kubelet: &Path) -> Result<Self, Error> {
        let quiet = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let mounts = vec![
            Mount::private()?,
            Mount::new(Path::new("proc"), "/proc", "proc", quiet)?,
            Mount::temporary("/run")?,
            Mount::temporary("/var/log")?,
            Mount::temporary("/var/lib/cni")?,
            Mount::bind(kubelet, "/var/lib/kubelet")?,
            // kubelet and containerd hand mounts on to containers; none leaves the machine.
            Mount::new(Path::new("none"), "/", "none", libc::MS_REC | libc::MS_SHARED)?,
        ];
        Ok(Self {
            name: CString::new(name)?,
            mounts,
            forwarding: CString::new("/proc/sys/net/ipv4/ip_forward")?,
        })
    }

    fn perform(&self) -> io::Result<()> {
        let name = self.name.as_bytes();
        // SAFETY: no pointer but the name with its length.
        unsafe {
            checked(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS))?;
            checked(libc::sethostname(name.as_ptr().cast(), name.len()))?;
        }
        self.mounts.iter().try_for_each(Mount::perform)?;
        // SAFETY: a path that ends with a zero, a buffer with its length, a descriptor that is closed once.
        unsafe {
            let descriptor = libc::open(self.forwarding.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            checked(descriptor)?;
            let written = libc::write(descriptor, c"1".as_ptr().cast(), 1);
            libc::close(descriptor);
            if written == 1 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
        }
    }
}

fn enter(namespace: RawFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: setns takes no pointer.
    checked(unsafe { libc::setns(namespace, kind) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
