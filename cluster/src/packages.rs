//! What a cluster with nodes takes from the machine it runs on.

use std::path::Path;
use std::process::Command;

/// Where root finds programs, also when its PATH does not say so.
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A file, in one of [`FOLDERS`] or by its whole path, and the Debian package that has it.
const NEEDED: [(&str, &str); 5] = [
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("mount", "mount"),
];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "a cluster with nodes needs root; run this as root, or take --nodes 0 for a control plane only"
    )]
    NotRoot,
    #[error(
        "this machine does not let root {doing}: {said}; use one that does, a virtual machine for example"
    )]
    Forbidden { doing: &'static str, said: String },
    #[error("install what is missing: apt-get install --no-install-recommends {packages}")]
    Missing { packages: String },
}

/// Whether a cluster with nodes can run here.
///
/// # Errors
/// What to do about it.
pub fn check() -> Result<(), Error> {
    // SAFETY: geteuid cannot fail and takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return Err(Error::NotRoot);
    }
    let there = |file: &str| FOLDERS.iter().any(|folder| Path::new(folder).join(file).exists());
    let missing: Vec<_> =
        NEEDED.iter().filter(|(file, _)| !there(file)).map(|(_, name)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing { packages: missing.join(" ") }) }
}

/// Whether the kernel gives what nodes are made of: some containers have root and still no namespaces or cgroups.
///
/// # Errors
/// What is forbidden.
pub fn check_kernel() -> Result<(), Error> {
    let forbidden = |doing, said: String| Error::Forbidden { doing, said };
    let doing = "make network, mount and process namespaces";
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output()
        .map_err(|error| forbidden(doing, error.to_string()))?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        return Err(forbidden(doing, said));
    }
    let cgroup = Path::new("/sys/fs/cgroup").join(format!("boyle-probe-{}", std::process::id()));
    std::fs::create_dir(&cgroup)
        .and_then(|()| std::fs::remove_dir(&cgroup))
        .map_err(|error| forbidden("make cgroups", error.to_string()))
}
