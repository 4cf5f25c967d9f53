//! One file of full length with holes, and the journal that knows the holes.

use super::error::{FetchError, at};
use super::journal::Journal;
use super::ranges::RangeSet;
use crate::sources::RemoteFile;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that are hashed at once.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// A file that grows from the inside. Writing and committing may happen on any thread.
#[derive(Debug)]
pub struct SparseFile {
    pub remote: RemoteFile,
    pub path: PathBuf,
    file: File,
    state: Mutex<State>,
    /// Held through a commit: who commits after it finds everything written down.
    committing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    present: RangeSet,
    /// Written since the last commit: a crash loses these.
    written: Vec<Range<u64>>,
    is_verified: bool,
}

impl SparseFile {
    /// Opens `name` below `files`, with its journal below `journals`. A file of another length begins anew.
    ///
    /// # Errors
    /// [`FetchError::File`].
    pub fn open(files: &Path, journals: &Path, remote: RemoteFile) -> Result<Self, FetchError> {
        let path = files.join(&remote.name);
        let open =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = open.map_err(at(&path))?;
        let length = file.metadata().map_err(at(&path))?.len();
        let journal_path = journals.join(&remote.name);
        let (mut journal, mut recorded) =
            Journal::open(&journal_path, remote.bytes).map_err(at(&journal_path))?;
        if length != remote.bytes {
            journal.clear().map_err(at(&journal_path))?;
            recorded = Default::default();
            file.set_len(0).and_then(|()| file.set_len(remote.bytes)).map_err(at(&path))?;
            file.sync_all().map_err(at(&path))?;
        }
        let state = State {
            journal,
            present: recorded.present,
            written: Vec::new(),
            is_verified: recorded.is_verified,
        };
        Ok(Self { remote, path, file, state: Mutex::new(state), committing: Mutex::default() })
    }

    /// Reads the journal again: another process may have added to it.
    ///
    /// # Errors
    /// [`FetchError::File`].
    pub fn reload(&self, journals: &Path) -> Result<(), FetchError> {
        let journal_path = journals.join(&self.remote.name);
        let (journal, recorded) =
            Journal::open(&journal_path, self.remote.bytes).map_err(at(&journal_path))?;
        let mut state = self.lock();
        state.journal = journal;
        state.present = recorded.present;
        state.is_verified = recorded.is_verified;
        Ok(())
    }

    /// Whether the bytes are safe on disk.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        self.lock().present.contains(range)
    }

    /// Bytes that are neither safe nor written.
    pub fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        self.lock().present.missing(range)
    }

    /// Writes bytes to their place.
    ///
    /// # Errors
    /// [`FetchError::File`]; a full disk says so in its source.
    pub fn write(&self, start: u64, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all_at(bytes, start).map_err(at(&self.path))?;
        self.lock().written.push(start..start + bytes.len() as u64);
        Ok(())
    }

    /// Makes safe what has been written, and only then writes it down.
    ///
    /// # Errors
    /// [`FetchError::File`].
    pub fn commit(&self) -> Result<(), FetchError> {
        let _committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ready = RangeSet::default();
        let written = std::mem::take(&mut self.lock().written);
        if written.is_empty() {
            return Ok(());
        }
        for range in written {
            ready.insert(range);
        }
        self.file.sync_data().map_err(at(&self.path))?;
        let ranges = ready.into_ranges();
        let mut state = self.lock();
        state.journal.append(&ranges).map_err(at(&self.path))?;
        for range in ranges {
            state.present.insert(range);
        }
        Ok(())
    }

    /// Reads bytes that are safe on disk.
    ///
    /// # Errors
    /// [`FetchError::File`].
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, FetchError> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(&mut bytes, range.start).map_err(at(&self.path))?;
        Ok(bytes)
    }

    /// Compares the whole content with its digest, once all of it is there and when the source has told one. What does
    /// not match is forgotten, so that it is fetched again.
    ///
    /// # Errors
    /// [`FetchError::Corrupt`].
    pub fn verify(&self) -> Result<(), FetchError> {
        let Some(expected) = &self.remote.sha256 else { return Ok(()) };
        let length = self.remote.bytes;
        let is_due = {
            let state = self.lock();
            !state.is_verified && state.present.contains(&(0..length))
        };
        if !is_due {
            return Ok(());
        }
        let found = self.digest()?;
        let mut state = self.lock();
        if found.eq_ignore_ascii_case(expected) {
            state.is_verified = true;
            return state.journal.verified(length).map_err(at(&self.path));
        }
        state.present = RangeSet::default();
        state.journal.clear().map_err(at(&self.path))?;
        let (file, expected) = (self.remote.name.clone(), expected.clone());
        Err(FetchError::Corrupt { file, expected, found })
    }

    fn digest(&self) -> Result<String, FetchError> {
        let mut file = File::open(&self.path).map_err(at(&self.path))?;
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        let mut hash = Sha256::new();
        loop {
            let count = file.read(&mut buffer).map_err(at(&self.path))?;
            if count == 0 {
                return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
            }
            hash.update(buffer.get(..count).unwrap_or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic between its changes leaves at worst a range unwritten, which is fetched again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
