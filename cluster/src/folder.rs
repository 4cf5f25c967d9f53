//! Where clusters' files are, and one command at a time for each cluster.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where clusters are unless BOYLE_CLUSTERS_DIR says otherwise.
const DEFAULT: &str = "/var/lib/boyle-clusters";

/// A name is part of cgroups and of sockets' paths, which are bounded.
const NAME_CHARACTERS_MAX: usize = 20;

/// Why there is no folder for a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cluster name {name:?}: take 1 to {NAME_CHARACTERS_MAX} of a-z, 0-9 and -, beginning with a letter"
    )]
    Name { name: String },
    #[error("{doing} {}; clusters' files are there, run as root or set BOYLE_CLUSTERS_DIR", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
}

/// A cluster's name, and the folder with all clusters that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    parent: PathBuf,
    name: String,
}

impl Name {
    /// A cluster in `BOYLE_CLUSTERS_DIR`, or among root's.
    ///
    /// # Errors
    /// When it is no name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        Self::parse_in(&parent(), name)
    }

    /// A cluster in a given folder.
    ///
    /// # Errors
    /// When it is no name.
    pub fn parse_in(parent: &Path, name: &str) -> Result<Self, Error> {
        let fits = name.len() <= NAME_CHARACTERS_MAX
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !fits {
            return Err(Error::Name { name: name.to_owned() });
        }
        // Marks of processes hold the folder, so every command must see the same one.
        let parent = std::path::absolute(parent).map_err(file("finding", parent))?;
        Ok(Self { parent, name: name.to_owned() })
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The folder with everything of this cluster.
    pub fn folder(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Keeps other commands that start or end something of this cluster away until it is dropped.
    ///
    /// # Errors
    /// When the parent folder cannot be written.
    pub fn lock(&self) -> Result<File, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.parent);
        made.map_err(file("creating", &self.parent))?;
        let path = self.parent.join(format!(".{}.lock", self.name));
        let lock = File::create(&path).map_err(file("creating", &path))?;
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another command on cluster {self} …");
            }
            Err(TryLockError::Error(source)) => return Err(file("locking", &path)(source)),
        }
        lock.lock().map_err(file("locking", &path))?;
        Ok(lock)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Every cluster with a folder, whole or not.
///
/// # Errors
/// When the parent folder cannot be listed.
pub fn names() -> Result<Vec<Name>, Error> {
    let parent = parent();
    let entries = match fs::read_dir(&parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(file("listing", &parent))?,
    };
    let names = entries.flatten().map(|entry| entry.file_name()).map(OsString::into_string);
    let mut names: Vec<_> = names.flatten().filter_map(|name| Name::parse(&name).ok()).collect();
    names.sort();
    Ok(names)
}

fn parent() -> PathBuf {
    let set = std::env::var_os("BOYLE_CLUSTERS_DIR").filter(|value| !value.is_empty());
    set.map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from)
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { doing, path, source }
}
