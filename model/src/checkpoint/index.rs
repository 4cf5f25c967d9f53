//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::CheckpointError;
use super::unique::UniqueNames;

/// DeepSeek-R1's index has about 9 MB for 92 000 tensors.
pub const INDEX_BYTES_MAX: u64 = 32 << 20;
/// DeepSeek-R1 has 163 shards. Each open shard is a mapping, and a process has 65 530 of those.
pub const SHARDS_MAX: usize = 4096;

#[derive(Deserialize)]
struct IndexFile {
    weight_map: UniqueNames<String>,
}

/// Reads an index; returns for each shard, by name, the tensors it must hold. `file` is for messages.
///
/// # Errors
/// [`CheckpointError`] when the bytes are no index, name a tensor twice, or name a shard outside the folder.
pub fn parse_index(
    file: &Path,
    bytes: &[u8],
) -> Result<BTreeMap<String, Vec<String>>, CheckpointError> {
    let index: IndexFile = serde_json::from_slice(bytes)
        .map_err(|source| CheckpointError::IndexNotJson { file: file.to_owned(), source })?;
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, shard) in index.weight_map.0 {
        if !is_plain_name(&shard) {
            return Err(CheckpointError::ShardName { file: file.to_owned(), tensor, shard });
        }
        shards.entry(shard).or_default().push(tensor);
    }
    if shards.len() > SHARDS_MAX {
        return Err(CheckpointError::TooManyShards {
            file: file.to_owned(),
            count: shards.len(),
            limit: SHARDS_MAX,
        });
    }
    Ok(shards)
}

/// A file in the index's own folder: without separators nor `..`, so that an index cannot read other folders.
fn is_plain_name(shard: &str) -> bool {
    let outside = shard.contains(['/', '\\', '\0']) || shard.contains("..");
    !outside && shard.len() > ".safetensors".len() && shard.ends_with(".safetensors")
}
