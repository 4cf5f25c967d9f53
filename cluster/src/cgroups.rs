//! Cgroups that containers leave behind when their machine loses power.

use crate::wait;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cgroup can be removed a moment after the last process in it has ended.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes the cgroup of this name, and those in it, from every hierarchy: one for each controller, or one for all.
///
/// # Errors
/// When one is still in use after a while.
pub fn remove(name: &str) -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let mut roots: Vec<PathBuf> = fs::read_dir(root)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    roots.push(root.to_path_buf());
    let cgroups: Vec<_> =
        roots.iter().map(|root| root.join(name)).filter(|path| path.is_dir()).collect();
    for cgroup in cgroups {
        let mut last = None;
        let removed = wait::until(REMOVE_TIMEOUT, || match remove_tree(&cgroup) {
            Ok(()) => Ok::<_, io::Error>(Some(())),
            Err(error) => {
                last = Some(error);
                Ok(None)
            }
        })?;
        if let (None, Some(error)) = (removed, last) {
            return Err(error);
        }
    }
    Ok(())
}

/// Folders only, the deepest first: the files in them are the kernel's and go with them.
fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
