//! The folder of one source at one revision: its listing, its sparse files, and the lock that agents on one volume share.
//!
//! ```text
//! models/hf-0123456789abcdef/
//!     source.json   what the source was asked for and what it resolved to; written once
//!     lock          held while bytes are fetched
//!     files/        looks like a checkpoint folder; files have full length and holes
//!     journal/      for each file, which bytes are there
//! ```

use super::error::{FetchError, at};
use super::sparse::SparseFile;
use crate::limits::LOCK_POLL_INTERVAL;
use crate::sources::{Listing, SourceError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What a person asked for. Agents with equal identities share a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uri: String,
    pub revision: String,
    pub endpoint: String,
}

/// `source.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    identity: Identity,
    listing: Listing,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    record: Record,
    files: Vec<SparseFile>,
}

/// Nobody else writes while this is held.
#[derive(Debug)]
pub struct Locked {
    _file: File,
}

const RECORD_FILE: &str = "source.json";

impl Identity {
    /// `models/{scheme}-{digest}`.
    fn root(&self, models: &Path) -> PathBuf {
        let scheme = self.uri.split("://").next().unwrap_or_default();
        let text = format!("{}\n{}\n{}", self.uri, self.revision, self.endpoint);
        let digest = Sha256::digest(text);
        let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        models.join(format!("{scheme}-{digits}"))
    }
}

impl Folder {
    /// Opens the folder of a source; `list` is asked what the source holds only when the folder does not know yet, so
    /// that a restarted agent needs no source for what it has.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn open(
        models: &Path,
        identity: &Identity,
        list: impl Future<Output = Result<Listing, SourceError>>,
    ) -> Result<Self, FetchError> {
        let root = identity.root(models);
        fs::create_dir_all(&root).map_err(at(&root))?;
        let _locked = lock(&root).await?;
        let record = match read_record(&root, identity)? {
            Some(record) => record,
            None => {
                let record = Record { identity: identity.clone(), listing: list.await? };
                begin(&root, &record)?;
                record
            }
        };
        let (files, journals) = (root.join("files"), root.join("journal"));
        for folder in [&files, &journals] {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let open =
            |file: &crate::sources::RemoteFile| SparseFile::open(&files, &journals, file.clone());
        let files = record.listing.files.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { root, record, files })
    }

    /// The folder that looks like a checkpoint.
    pub fn directory(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Where the bytes go, for the question how many more there may be.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the source resolved to.
    pub fn revision(&self) -> &str {
        &self.record.listing.revision
    }

    pub fn files(&self) -> &[SparseFile] {
        &self.files
    }

    /// A file's position among [`Self::files`].
    pub fn position(&self, name: &str) -> Option<usize> {
        self.files.iter().position(|file| file.remote.name == name)
    }

    /// Waits until no other agent fetches into this folder, and takes up what it has fetched.
    ///
    /// # Errors
    /// [`FetchError::TakenOver`] when another agent has replaced the files.
    pub async fn lock(&self) -> Result<Locked, FetchError> {
        let locked = lock(&self.root).await?;
        if read_record(&self.root, &self.record.identity)?.as_ref() != Some(&self.record) {
            return Err(FetchError::TakenOver { path: self.root.clone() });
        }
        let journals = self.root.join("journal");
        for file in &self.files {
            file.reload(&journals)?;
        }
        Ok(locked)
    }

    /// Lets the next opening ask the source anew and begin from nothing.
    ///
    /// # Errors
    /// [`FetchError::File`].
    pub fn forget(&self) -> Result<(), FetchError> {
        let path = self.root.join(RECORD_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The kernel gives the lock back when its holder dies.
async fn lock(root: &Path) -> Result<Locked, FetchError> {
    let path = root.join("lock");
    let open = || File::options().create(true).truncate(false).write(true).open(&path);
    let file = open().map_err(at(&path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Locked { _file: file }),
            Err(TryLockError::Error(error)) => return Err(at(path)(error)),
            Err(TryLockError::WouldBlock) if told => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(folder = %root.display(), "another agent fetches into this folder");
                told = true;
            }
        }
        tokio::time::sleep(LOCK_POLL_INTERVAL).await;
    }
}

/// `None` when there is none, or one that nobody can read: then the files of the folder count as nothing.
fn read_record(root: &Path, identity: &Identity) -> Result<Option<Record>, FetchError> {
    let path = root.join(RECORD_FILE);
    match fs::read(&path) {
        Ok(content) => {
            let record = serde_json::from_slice(&content).ok();
            Ok(record.filter(|record: &Record| record.identity == *identity))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Files and journals of an earlier listing go, then the record appears by one rename.
fn begin(root: &Path, record: &Record) -> Result<(), FetchError> {
    for folder in [root.join("files"), root.join("journal")] {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(folder)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let path = root.join(RECORD_FILE);
    let write = || {
        let fresh = root.join(format!("{RECORD_FILE}.new"));
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(root)?.sync_all()
    };
    write().map_err(at(&path))
}
