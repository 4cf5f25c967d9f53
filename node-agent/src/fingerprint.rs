//! What makes two agents' models the same: a digest that costs a few hundred small reads, whatever the model's size.
//!
//! It covers the configuration and the tokeniser whole, every tensor's name, type, shape and place, and samples of the
//! weights. A model that was trained on differs nearly everywhere, so samples find it; those of the dense part and of
//! the routed experts are chosen apart, because the experts are nearly all bytes and often the part that stays.

use model::checkpoint::TensorAt;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Files beside the weights that change what a model says.
pub const TEXT_FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];
/// Tensors that are sampled of the dense part, and of the routed experts. From a remote source each is one read of
/// some ten milliseconds, many at a time: seconds for the largest models.
const SAMPLES_MAX: usize = 256;
/// Bytes of one sample: more cost nothing less than a round trip.
const SAMPLE_BYTES: u64 = 4 << 10;
/// In the names of routed experts' tensors.
const EXPERTS: &str = ".mlp.experts.";

/// A model's files that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct FingerprintError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// Part of a file whose bytes count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub file: PathBuf,
    pub bytes: Range<u64>,
}

/// The samples of a checkpoint; `tensors` ascend by name.
pub fn samples(tensors: &[TensorAt<'_>]) -> Vec<Sample> {
    let (experts, dense): (Vec<_>, Vec<_>) =
        tensors.iter().partition(|tensor| tensor.name.contains(EXPERTS));
    [dense, experts].iter().flat_map(|group| spread(group)).map(sample).collect()
}

/// At most [`SAMPLES_MAX`] of them, evenly spaced, the first and the last among them.
fn spread<'a, 'b>(tensors: &'b [TensorAt<'a>]) -> impl Iterator<Item = &'b TensorAt<'a>> {
    let count = tensors.len().min(SAMPLES_MAX);
    let last = tensors.len().saturating_sub(1);
    (0..count).filter_map(move |n| tensors.get(n * last / count.saturating_sub(1).max(1)))
}

/// The middle of a tensor.
fn sample(tensor: &TensorAt<'_>) -> Sample {
    let (start, end) = (tensor.place.bytes.start as u64, tensor.place.bytes.end as u64);
    let length = (end - start).min(SAMPLE_BYTES);
    let start = start + (end - start - length) / 2;
    Sample { file: tensor.file.to_owned(), bytes: start..start + length }
}

/// The fingerprint of the model in `directory`, whose samples must be on disk: 64 hexadecimal digits.
///
/// # Errors
/// [`FingerprintError`] naming the file.
pub fn of(directory: &Path, tensors: &[TensorAt<'_>]) -> Result<String, FingerprintError> {
    let mut hash = Sha256::new();
    for name in TEXT_FILES {
        let path = directory.join(name);
        match std::fs::read(&path) {
            Ok(content) => add(&mut hash, name, &content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(FingerprintError { path, source }),
        }
    }
    for TensorAt { name, file, place } in tensors {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{file} {} {:?} {:?}", place.dtype, place.shape, place.bytes);
        add(&mut hash, name, place.as_bytes());
    }
    let mut files = BTreeMap::new();
    for Sample { file, bytes } in samples(tensors) {
        let content = read(&mut files, &file, bytes);
        add(
            &mut hash,
            "sample",
            &content.map_err(|source| FingerprintError { path: file, source })?,
        );
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read(
    files: &mut BTreeMap<PathBuf, File>,
    path: &Path,
    bytes: Range<u64>,
) -> io::Result<Vec<u8>> {
    if !files.contains_key(path) {
        files.insert(path.to_owned(), File::open(path)?);
    }
    let mut content = vec![0; (bytes.end - bytes.start) as usize];
    if let Some(file) = files.get(path) {
        file.read_exact_at(&mut content, bytes.start)?;
    }
    Ok(content)
}

/// Lengths come first, so that no two sequences of parts have the same bytes.
fn add(hash: &mut Sha256, name: &str, content: &[u8]) {
    for part in [name.as_bytes(), content] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
}
