//! The model inside the executable, and its way to disk.

use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Name of the embedded model: `embedded://tiny-r1`.
pub const NAME: &str = "tiny-r1";

/// One file of a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelFile {
    pub name: &'static str,
    pub bytes: &'static [u8],
}

macro_rules! model_file {
    ($name:literal) => {
        ModelFile {
            name: $name,
            bytes: include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../models/tiny-r1/",
                $name
            )),
        }
    };
}

/// All that serving it takes.
pub const FILES: [ModelFile; 5] = [
    model_file!("config.json"),
    model_file!("generation_config.json"),
    model_file!("tokenizer.json"),
    model_file!("tokenizer_config.json"),
    model_file!("model.safetensors"),
];

/// The model cannot be put on disk.
#[derive(Debug, thiserror::Error)]
#[error("unpack the embedded model into {}; is there room for 13 MB?", path.display())]
pub struct UnpackError {
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

/// Puts the files into a folder below `models` whose name is their content, unless they are there already, and
/// returns the folder. It appears by one rename when everything is written and synced, so that an interrupted
/// unpacking, or two at once, never leave half a model behind.
///
/// # Errors
/// [`UnpackError`] when the disk does not take it.
pub fn unpack(models: &Path, files: &[ModelFile]) -> Result<PathBuf, UnpackError> {
    let target = models.join(format!("{NAME}-{}", digest(files)));
    if is_complete(&target, files) {
        return Ok(target);
    }
    let failed = |source| UnpackError { path: target.clone(), source };
    std::fs::create_dir_all(models).map_err(failed)?;
    let staging = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(models);
    let staging = staging.map_err(failed)?;
    write_all(staging.path(), files).map_err(failed)?;
    place(staging, &target, files).map_err(failed)?;
    Ok(target)
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

fn place(staging: tempfile::TempDir, target: &Path, files: &[ModelFile]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // Temporary folders are private; the model is not.
    std::fs::set_permissions(staging.path(), std::fs::Permissions::from_mode(0o755))?;
    if target.exists() && !is_complete(target, files) {
        // Damaged: out of the way under a name that nobody uses, for a process may still have it mapped.
        let aside = tempfile::Builder::new().prefix(".damaged-").tempdir_in(parent(target))?;
        std::fs::rename(target, aside.path().join("model"))?;
    }
    let staged = staging.keep();
    match std::fs::rename(&staged, target) {
        Ok(()) => File::open(parent(target))?.sync_all(),
        Err(error) => {
            std::fs::remove_dir_all(&staged)?;
            // Another process was faster; its folder is as good as ours.
            if is_complete(target, files) { Ok(()) } else { Err(error) }
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
