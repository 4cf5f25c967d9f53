//! The safetensors header: 8 bytes of length, JSON, then tensor data that the JSON covers without gap or overlap.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};

use super::CheckpointError;
use super::unique::UniqueNames;

/// Bytes of the little-endian header length that opens a file.
const LENGTH_BYTES: usize = 8;
/// DeepSeek-R1 in a single file would need about 14 MB for its 92 000 tensors; more is not a model.
pub const HEADER_BYTES_MAX: u64 = 32 << 20;
/// No weight has more than two dimensions; room for what other exporters add.
pub const RANK_MAX: usize = 8;

/// Where each tensor of one file lies; every range is checked against the file.
#[derive(Debug)]
pub struct Header {
    tensors: BTreeMap<String, TensorPlace>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlace {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub bytes: Range<usize>,
}

impl Header {
    /// Reads the header of the safetensors file `bytes`; touches nothing behind it. `file` is for messages.
    ///
    /// # Errors
    /// [`CheckpointError`] when the header is too large, truncated, no safetensors JSON, names a tensor twice, or
    /// does not cover the data exactly.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let data_start = data_start(file, bytes)?;
        let json = &bytes[LENGTH_BYTES..data_start];
        let UniqueNames(infos) = serde_json::from_slice::<UniqueNames<TensorInfo>>(json)
            .map_err(|source| CheckpointError::HeaderNotJson { file: file.to_owned(), source })?;
        for (name, info) in &infos {
            check_size(file, name, info)?;
        }
        check_coverage(file, &infos, bytes.len() - data_start)?;
        let tensors = infos.into_iter().map(|(name, info)| {
            let bytes = data_start + info.data_offsets.0..data_start + info.data_offsets.1;
            (name, TensorPlace { dtype: info.dtype, shape: info.shape, bytes })
        });
        Ok(Self { tensors: tensors.collect() })
    }

    /// The tensor `name`, if this file holds it.
    pub fn tensor(&self, name: &str) -> Option<&TensorPlace> {
        self.tensors.get(name)
    }

    /// All tensors, by name.
    pub fn into_tensors(self) -> BTreeMap<String, TensorPlace> {
        self.tensors
    }
}

/// Checks the announced header length and returns where the tensor data starts.
fn data_start(file: &Path, bytes: &[u8]) -> Result<usize, CheckpointError> {
    let file_bytes = bytes.len() as u64;
    let length = bytes
        .first_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| CheckpointError::TooShort { file: file.to_owned(), bytes: file_bytes })?;
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(CheckpointError::HeaderTooLarge {
            file: file.to_owned(),
            bytes: header_bytes,
            limit: HEADER_BYTES_MAX,
        });
    }
    let start = LENGTH_BYTES + header_bytes as usize;
    if start > bytes.len() {
        return Err(CheckpointError::HeaderTruncated {
            file: file.to_owned(),
            header_bytes,
            file_bytes,
        });
    }
    Ok(start)
}

/// Checks that shape, type and offsets of one tensor agree.
fn check_size(file: &Path, name: &str, info: &TensorInfo) -> Result<(), CheckpointError> {
    if info.shape.len() > RANK_MAX {
        let rank = info.shape.len();
        return Err(CheckpointError::RankTooLarge {
            file: file.to_owned(),
            tensor: name.to_owned(),
            rank,
            limit: RANK_MAX,
        });
    }
    let (begin, end) = info.data_offsets;
    let bits = info
        .shape
        .iter()
        .try_fold(info.dtype.bitsize(), |product, &length| product.checked_mul(length));
    let fits = bits.is_some_and(|bits| bits % 8 == 0 && begin.checked_add(bits / 8) == Some(end));
    if fits {
        return Ok(());
    }
    Err(CheckpointError::SizeMismatch {
        file: file.to_owned(),
        tensor: name.to_owned(),
        begin,
        end,
        shape: info.shape.clone(),
        dtype: info.dtype.to_string(),
    })
}

/// Checks that the tensors follow each other from byte 0 to the file's end.
fn check_coverage(
    file: &Path,
    infos: &BTreeMap<String, TensorInfo>,
    available: usize,
) -> Result<(), CheckpointError> {
    let mut places: Vec<_> = infos.iter().map(|(name, info)| (info.data_offsets, name)).collect();
    places.sort_unstable();
    let mut previous_end = 0;
    let mut previous = "";
    for ((begin, end), name) in places {
        let (file, tensor) = (file.to_owned(), name.clone());
        if begin < previous_end {
            return Err(CheckpointError::Overlap {
                file,
                tensor,
                begin,
                previous: previous.to_owned(),
                previous_end,
            });
        }
        if begin > previous_end {
            return Err(CheckpointError::Hole { file, tensor, begin, previous_end });
        }
        if end > available {
            return Err(CheckpointError::TensorTruncated { file, tensor, end, available });
        }
        previous_end = end;
        previous = name;
    }
    match available - previous_end {
        0 => Ok(()),
        bytes => Err(CheckpointError::TrailingBytes { file: file.to_owned(), bytes }),
    }
}
