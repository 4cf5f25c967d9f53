//! The last assignment on disk, so that serving depends on nobody after a restart.

use prost::Message;
use proto::limits::ASSIGNMENT_BYTES_MAX;
use proto::v1;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the state directory: the assignment as protobuf.
const FILE_NAME: &str = "assignment.binpb";

/// The state directory of one agent.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make the state directory {}; give a folder that this user may write", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}; remove the file to start without an assignment", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has {length} bytes and an assignment at most {ASSIGNMENT_BYTES_MAX}; remove the file to start without it", path.display())]
    TooLarge { path: PathBuf, length: u64 },
    #[error("{} is no assignment; remove the file to start without it", path.display())]
    Malformed { path: PathBuf, source: prost::DecodeError },
}

impl Store {
    /// Makes the directory when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Directory`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.into(), source })?;
        Ok(Self { directory: directory.into() })
    }

    /// The recorded assignment, when there is one.
    ///
    /// # Errors
    /// [`StoreError`] when there is a file that cannot be read as one.
    pub fn read(&self) -> Result<Option<v1::Assignment>, StoreError> {
        let path = self.directory.join(FILE_NAME);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        if length > ASSIGNMENT_BYTES_MAX as u64 {
            return Err(StoreError::TooLarge { path, length });
        }
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        v1::Assignment::decode(content.as_slice())
            .map(Some)
            .map_err(|source| StoreError::Malformed { path, source })
    }

    /// Replaces the recorded assignment: after a crash the file is the old one or the new one.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the old one is then still there.
    pub fn write(&self, assignment: &v1::Assignment) -> Result<(), StoreError> {
        let path = self.directory.join(FILE_NAME);
        let fresh = self.directory.join(format!("{FILE_NAME}.new"));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&assignment.encode_to_vec())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            // The rename itself must be on disk too.
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| StoreError::Write { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE_NAME, Store, StoreError};
    use proto::v1;

    #[test]
    fn the_last_assignment_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("made/when/missing")).unwrap();
        assert_eq!(store.read().unwrap(), None);
        for generation in [1, 2] {
            let assignment = v1::Assignment { generation, ..v1::Assignment::default() };
            store.write(&assignment).unwrap();
            assert_eq!(store.read().unwrap(), Some(assignment));
        }
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        std::fs::write(directory.path().join(FILE_NAME), "not protobuf").unwrap();
        let error = store.read().unwrap_err();
        assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(FILE_NAME));
    }
}
