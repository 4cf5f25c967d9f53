//! Which bytes of a remote checkpoint are needed: first what tells its facts, then whole tensors.

use crate::fetch::{Downloader, FetchError, FileRange, Folder, Locked, Progress};
use crate::fingerprint::TEXT_FILES;
use crate::limits::{HEADER_FIRST_BYTES, TEXT_FILE_BYTES_MAX};
use model::checkpoint::{HEADER_BYTES_MAX, TensorAt, parse_index};
use std::ops::Range;
use std::path::Path;

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
/// Bytes that tell a header's length.
const LENGTH_BYTES: u64 = 8;

/// Fetches the files beside the weights, and the headers of those with weights.
///
/// # Errors
/// [`FetchError`]. What the files say is not judged here.
pub async fn metadata(
    downloader: &Downloader,
    locked: &Locked,
    progress: &Progress,
) -> Result<(), FetchError> {
    let folder = &downloader.folder;
    let names = TEXT_FILES.iter().copied().chain([INDEX_FILE]);
    let text: Vec<usize> = names.filter_map(|name| folder.position(name)).collect();
    let mut wanted = Vec::with_capacity(text.len());
    for file in text {
        wanted.push(whole(folder, file)?);
    }
    downloader.ensure(locked, &wanted, progress).await?;
    let shards = shards(folder)?;
    let starts: Vec<FileRange> =
        shards.iter().map(|&file| clipped(folder, file, HEADER_FIRST_BYTES)).collect();
    downloader.ensure(locked, &starts, progress).await?;
    let mut headers = Vec::new();
    for file in shards {
        let length = header_bytes(folder, file)?;
        headers.push(clipped(folder, file, LENGTH_BYTES.saturating_add(length)));
    }
    downloader.ensure(locked, &headers, progress).await
}

/// Where tensors lie in the folder's files.
pub fn range_of(folder: &Folder, tensor: &TensorAt<'_>) -> Option<FileRange> {
    range(folder, tensor.file, tensor.place.bytes.start as u64..tensor.place.bytes.end as u64)
}

/// Bytes of a file that is known by its path.
pub fn range(folder: &Folder, path: &Path, bytes: Range<u64>) -> Option<FileRange> {
    let file = folder.position(path.file_name()?.to_str()?)?;
    Some(FileRange { file, start: bytes.start, end: bytes.end })
}

fn whole(folder: &Folder, file: usize) -> Result<FileRange, FetchError> {
    let range = clipped(folder, file, u64::MAX);
    if range.end > TEXT_FILE_BYTES_MAX {
        let file = folder.files().get(file).map(|file| file.remote.name.clone());
        let (file, bytes) = (file.unwrap_or_default(), range.end);
        return Err(FetchError::TooLarge { file, bytes, max: TEXT_FILE_BYTES_MAX });
    }
    Ok(range)
}

fn clipped(folder: &Folder, file: usize, bytes: u64) -> FileRange {
    let length = folder.files().get(file).map_or(0, |file| file.remote.bytes);
    FileRange { file, start: 0, end: bytes.min(length) }
}

/// The files with weights: the single one, or those that the index names.
fn shards(folder: &Folder) -> Result<Vec<usize>, FetchError> {
    if let Some(single) = folder.position(SINGLE_FILE) {
        return Ok(vec![single]);
    }
    let Some(index) = folder.position(INDEX_FILE).and_then(|index| folder.files().get(index))
    else {
        return Ok(Vec::new());
    };
    let content = index.read(0..index.remote.bytes)?;
    // A broken index is told by name when the checkpoint is opened.
    let named = parse_index(&index.path, &content).unwrap_or_default();
    let missing = |file| FetchError::Missing { file, named_by: INDEX_FILE };
    named.into_keys().map(|name| folder.position(&name).ok_or_else(|| missing(name))).collect()
}

/// Announced length of a shard's header; 0 for what is none, which is told when the checkpoint is opened.
fn header_bytes(folder: &Folder, file: usize) -> Result<u64, FetchError> {
    let Some(file) = folder.files().get(file).filter(|it| it.remote.bytes >= LENGTH_BYTES) else {
        return Ok(0);
    };
    let length = file.read(0..LENGTH_BYTES)?;
    let length = length.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Ok(if length > HEADER_BYTES_MAX { 0 } else { length })
}
