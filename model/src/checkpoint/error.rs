//! Why a checkpoint cannot be used; each names the file, and the tensor where there is one.

use std::io;
use std::path::PathBuf;

/// A checkpoint folder that cannot be opened, or a tensor that is not what the model needs.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(
        "{directory} holds neither model.safetensors nor model.safetensors.index.json: point to a folder with safetensors weights"
    )]
    NoWeights { directory: PathBuf },
    #[error(
        "{directory} holds its weights only as pickle ({file}), which can run code when read: convert it to safetensors first"
    )]
    PickleOnly { directory: PathBuf, file: String },
    #[error("{file} cannot be read")]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{file} has {bytes} bytes, too few for a safetensors file: it is truncated, fetch it again"
    )]
    TooShort { file: PathBuf, bytes: u64 },
    #[error(
        "{file} announces a header of {bytes} bytes, more than the {limit} allowed: it is damaged or not safetensors"
    )]
    HeaderTooLarge { file: PathBuf, bytes: u64, limit: u64 },
    #[error(
        "{file} ends inside its header of {header_bytes} bytes (the file has {file_bytes}): it is truncated, fetch it again"
    )]
    HeaderTruncated { file: PathBuf, header_bytes: u64, file_bytes: u64 },
    #[error("{file} has a header that is not safetensors JSON")]
    HeaderNotJson {
        file: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{file}, tensor {tensor}: shape with {rank} dimensions, more than the {limit} allowed")]
    RankTooLarge { file: PathBuf, tensor: String, rank: usize, limit: usize },
    #[error(
        "{file}, tensor {tensor}: offsets {begin}..{end} do not fit shape {shape:?} of {dtype}"
    )]
    SizeMismatch {
        file: PathBuf,
        tensor: String,
        begin: usize,
        end: usize,
        shape: Vec<usize>,
        dtype: String,
    },
    #[error(
        "{file}, tensor {tensor}: starts at byte {begin} inside tensor {previous}, which ends at {previous_end}"
    )]
    Overlap { file: PathBuf, tensor: String, begin: usize, previous: String, previous_end: usize },
    #[error(
        "{file}, tensor {tensor}: starts at byte {begin} and leaves a hole after byte {previous_end}"
    )]
    Hole { file: PathBuf, tensor: String, begin: usize, previous_end: usize },
    #[error(
        "{file}, tensor {tensor}: needs data up to byte {end} and the file has only {available}: it is truncated, fetch it again"
    )]
    TensorTruncated { file: PathBuf, tensor: String, end: usize, available: usize },
    #[error("{file} has {bytes} bytes after its last tensor: it is damaged, fetch it again")]
    TrailingBytes { file: PathBuf, bytes: usize },
    #[error("{file} has {bytes} bytes, more than the {limit} allowed for an index")]
    IndexTooLarge { file: PathBuf, bytes: u64, limit: u64 },
    #[error("{file} is not a safetensors index")]
    IndexNotJson {
        file: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{file} names {count} shards, more than the {limit} allowed")]
    TooManyShards { file: PathBuf, count: usize, limit: usize },
    #[error(
        "{file}, tensor {tensor}: shard name {shard:?} is not a .safetensors file in the same folder"
    )]
    ShardName { file: PathBuf, tensor: String, shard: String },
    #[error("{index}, tensor {tensor}: its shard {shard} is missing: fetch it")]
    ShardMissing { index: PathBuf, tensor: String, shard: String },
    #[error("{index}, tensor {tensor}: its shard {shard} does not hold it")]
    ShardLacksTensor { index: PathBuf, tensor: String, shard: String },
    #[error("{place}, tensor {tensor}: missing, and config.json asks for it")]
    MissingTensor { place: PathBuf, tensor: String },
    #[error("{file}, tensor {tensor}: shape {found:?}, and config.json asks for {expected:?}")]
    WrongShape { file: PathBuf, tensor: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("{file}, tensor {tensor}: stored as {found}, and config.json asks for {accepted}")]
    WrongType { file: PathBuf, tensor: String, found: String, accepted: &'static str },
    #[error("tensor {tensor}: shape {shape:?} cannot be cut in blocks of {rows} × {columns}")]
    NotBlocks { tensor: String, shape: Vec<usize>, rows: usize, columns: usize },
    #[error(
        "{file}, tensor {tensor}: scale of block [{block_row}, {block_column}] is {value}, which is no finite number ≥ 0"
    )]
    BadScale { file: PathBuf, tensor: String, block_row: usize, block_column: usize, value: f32 },
}
