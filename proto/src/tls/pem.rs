//! Certificates as text, and reading them from a folder.

use super::identity::{Identity, Role};
use super::material::{Material, MaterialError};
use super::{AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file: a Secret of Kubernetes holds at most 1 MiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Kubernetes puts the files of one version behind this link and swaps it, so that going through it gives three files
/// that belong together.
const VERSION_LINK: &str = "..data";

/// A certificate with its chain, its key, and the authorities that are trusted.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// Folder or Secret that it comes from, for messages.
    pub origin: String,
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    pub authorities: Vec<u8>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pem").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Pem {
    /// Whom it is for, if a process of this role could use it.
    ///
    /// # Errors
    /// [`MaterialError`], as that process would say it.
    pub fn check(&self, role: Role) -> Result<Identity, MaterialError> {
        Material::parse(self, role).map(|material| material.identity)
    }

    /// Reads the three files of a folder.
    pub(super) fn read(directory: &Path) -> Result<Self, MaterialError> {
        let folder = match directory.join(VERSION_LINK).canonicalize() {
            Ok(version) => version,
            // A folder that is no mounted Secret.
            Err(_) => directory.to_owned(),
        };
        let read = |name| read_file(&folder, directory, name);
        Ok(Self {
            origin: directory.display().to_string(),
            certificate: read(CERTIFICATE_FILE)?,
            key: read(KEY_FILE)?,
            authorities: read(AUTHORITIES_FILE)?,
        })
    }

    /// Name of one of its files, for messages.
    pub(super) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.origin)
    }
}

fn read_file(folder: &Path, shown: &Path, name: &str) -> Result<Vec<u8>, MaterialError> {
    let path: PathBuf = folder.join(name);
    let shown = || shown.join(name).display().to_string();
    let mut content = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(|source| MaterialError::Read { file: shown(), source })?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(MaterialError::TooLarge { file: shown() });
    }
    Ok(content)
}
