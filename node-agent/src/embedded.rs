//! Models inside the executable, and their way to disk. Knows no model: whoever builds an executable hands them in.

use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A model that can be served without fetching anything.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedModel {
    /// `embedded://name`
    pub name: &'static str,
    pub files: &'static [ModelFile],
}

/// One file of a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelFile {
    pub name: &'static str,
    pub bytes: &'static [u8],
}

/// The model cannot be put on disk.
#[derive(Debug, thiserror::Error)]
#[error("unpack the embedded model into {}; is there room for {bytes} bytes?", path.display())]
pub struct UnpackError {
    pub path: PathBuf,
    pub bytes: u64,
    #[source]
    pub source: std::io::Error,
}

impl EmbeddedModel {
    /// Puts the files into a folder below `models` whose name is their content, unless they are there already, and
    /// returns the folder. It appears by one rename when everything is written and synced, so that an interrupted
    /// unpacking never leaves half a model behind.
    ///
    /// # Errors
    /// [`UnpackError`] when the disk does not take it.
    pub fn unpack(&self, models: &Path) -> Result<PathBuf, UnpackError> {
        let target = models.join(format!("{}-{}", self.name, digest(self.files)));
        if is_complete(&target, self.files) {
            return Ok(target);
        }
        match unpack_into(models, &target, self.files) {
            Ok(()) => Ok(target),
            Err(source) => {
                let bytes = self.files.iter().map(|file| file.bytes.len() as u64).sum();
                Err(UnpackError { path: target, bytes, source })
            }
        }
    }
}
fn unpack_into(models: &Path, target: &Path, files: &[ModelFile]) -> std::io::Result<()> {
    std::fs::create_dir_all(models)?;
    // One at a time; the kernel gives the lock back when its holder dies.
    let lock = File::create(models.join("lock"))?;
    lock.lock()?;
    if is_complete(target, files) {
        return Ok(());
    }
    // Whatever is staged now is what a dead process left.
    let staging = models.join("staging");
    for stale in [&staging, target] {
        match std::fs::remove_dir_all(stale) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::create_dir(&staging)?;
    write_all(&staging, files)?;
    std::fs::rename(&staging, target)?;
    File::open(models)?.sync_all()
}

/// Sixteen hexadecimal digits over names and contents: enough to tell versions of one model apart.
fn digest(files: &[ModelFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update((file.name.len() as u64).to_le_bytes());
        hash.update(file.name);
        hash.update((file.bytes.len() as u64).to_le_bytes());
        hash.update(file.bytes);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A folder that was renamed into place is whole; sizes are looked at for the sake of people who edit it.
fn is_complete(folder: &Path, files: &[ModelFile]) -> bool {
    files.iter().all(|file| {
        std::fs::metadata(folder.join(file.name))
            .is_ok_and(|metadata| metadata.len() == file.bytes.len() as u64)
    })
}

fn write_all(folder: &Path, files: &[ModelFile]) -> std::io::Result<()> {
    for file in files {
        let mut written = File::create_new(folder.join(file.name))?;
        written.write_all(file.bytes)?;
        written.sync_all()?;
    }
    File::open(folder)?.sync_all()
}
