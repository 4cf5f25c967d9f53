//! Reading a checkpoint folder: safetensors headers, shards, and tensors mapped from the file.
//!
//! Opening reads headers only. A tensor's data is read when the caller reads its rows, so an agent that holds a few
//! experts of a large model touches a few pages of it.

mod check;
mod error;
mod header;
mod index;
mod stored;
mod unique;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::config::StoredFormat;

use check::Found;

pub use error::CheckpointError;
pub use header::{HEADER_BYTES_MAX, Header, RANK_MAX, TensorPlace};
pub use index::{INDEX_BYTES_MAX, SHARDS_MAX, parse_index};
pub use stored::{StoredTensor, StoredValues};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
/// Looked for only to say why a folder is refused.
const PICKLE_FILES: [&str; 3] =
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];
/// An FP8 tensor's scales are stored under its name with this behind it.
pub(crate) const SCALE_SUFFIX: &str = "_scale_inv";

/// An opened checkpoint folder.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Located>,
}

#[derive(Debug)]
struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

#[derive(Debug)]
struct Located {
    /// Position in `Checkpoint::files`.
    file: usize,
    place: TensorPlace,
}

/// Where one tensor's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorAt<'a> {
    pub name: &'a str,
    pub file: &'a Path,
    pub place: &'a TensorPlace,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names, and checks every header.
    ///
    /// # Errors
    /// [`CheckpointError`] when a file is missing, truncated or not safetensors, or the index does not fit its shards.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        let mut checkpoint =
            Self { directory: directory.to_owned(), files: Vec::new(), tensors: BTreeMap::new() };
        let single = directory.join(SINGLE_FILE);
        let index = directory.join(INDEX_FILE);
        if single.is_file() {
            checkpoint.add_single(single)?;
        } else if index.is_file() {
            checkpoint.add_shards(&index)?;
        } else {
            return Err(no_weights(directory));
        }
        Ok(checkpoint)
    }

    /// Whether the checkpoint holds tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors, ascending; scales are tensors of their own here.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All tensors, ascending by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorAt<'_>> {
        self.tensors.iter().map(|(name, located)| self.at(name, located))
    }

    /// Where tensor `name` lies, if the checkpoint holds it.
    pub fn place(&self, name: &str) -> Option<TensorAt<'_>> {
        self.tensors.get_key_value(name).map(|(name, located)| self.at(name, located))
    }

    fn at<'a>(&'a self, name: &'a str, located: &'a Located) -> TensorAt<'a> {
        TensorAt { name, file: &self.files[located.file].path, place: &located.place }
    }

    /// Finds tensor `name` and checks that it has `shape` and is stored as `format`; with FP8, also its scales
    /// (`name` + `_scale_inv`, one for each block).
    ///
    /// # Errors
    /// [`CheckpointError`] when the tensor or its scales are missing, of another shape or type, or a scale is
    /// negative or not finite.
    pub fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        format: StoredFormat,
    ) -> Result<StoredTensor<'_>, CheckpointError> {
        let values = match self.find(name, shape, format)? {
            Found::Plain { values, wrap } => wrap(self.bytes(values)),
            Found::Blocks { values, scales, block: (block_rows, block_columns) } => {
                let (bytes, scales) = (self.bytes(values), self.scales(name, scales)?);
                StoredValues::Fp8Blocks { bytes, scales, block_rows, block_columns }
            }
        };
        Ok(StoredTensor { name: name.to_owned(), shape: shape.to_vec(), values })
    }

    fn add_single(&mut self, path: PathBuf) -> Result<(), CheckpointError> {
        let map = map_file(&path)?;
        let places = Header::parse(&path, &map)?.into_tensors();
        self.tensors =
            places.into_iter().map(|(name, place)| (name, Located { file: 0, place })).collect();
        self.files.push(MappedFile { path, map });
        Ok(())
    }

    fn add_shards(&mut self, index: &Path) -> Result<(), CheckpointError> {
        let shards = parse_index(index, &read_index(index)?)?;
        for (shard, names) in shards {
            let path = self.directory.join(&shard);
            if !path.is_file() {
                let tensor = names.into_iter().next().unwrap_or_default();
                return Err(CheckpointError::ShardMissing {
                    index: index.to_owned(),
                    tensor,
                    shard,
                });
            }
            let map = map_file(&path)?;
            let mut places = Header::parse(&path, &map)?.into_tensors();
            let file = self.files.len();
            for name in names {
                let Some(place) = places.remove(&name) else {
                    return Err(CheckpointError::ShardLacksTensor {
                        index: index.to_owned(),
                        tensor: name,
                        shard,
                    });
                };
                self.tensors.insert(name, Located { file, place });
            }
            self.files.push(MappedFile { path, map });
        }
        Ok(())
    }

    fn locate(&self, name: &str, shape: &[usize]) -> Result<&Located, CheckpointError> {
        let located = self.tensors.get(name).ok_or_else(|| CheckpointError::MissingTensor {
            place: match self.files.as_slice() {
                [file] => file.path.clone(),
                _ => self.directory.clone(),
            },
            tensor: name.to_owned(),
        })?;
        if located.place.shape == shape {
            return Ok(located);
        }
        Err(CheckpointError::WrongShape {
            file: self.path(located),
            tensor: name.to_owned(),
            found: located.place.shape.clone(),
            expected: shape.to_vec(),
        })
    }

    /// Reads and checks the block scales of FP8 tensor `name`.
    fn scales(&self, name: &str, located: &Located) -> Result<Vec<f32>, CheckpointError> {
        let (stored, _) = self.bytes(located).as_chunks();
        let scales: Vec<f32> = stored.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if let Some(position) =
            scales.iter().position(|scale| !(scale.is_finite() && *scale >= 0.0))
        {
            let columns = located.place.shape.last().copied().unwrap_or(1);
            return Err(CheckpointError::BadScale {
                file: self.path(located),
                tensor: format!("{name}{SCALE_SUFFIX}"),
                block_row: position / columns,
                block_column: position % columns,
                value: scales[position],
            });
        }
        Ok(scales)
    }

    fn wrong_type(&self, name: &str, located: &Located, accepted: &'static str) -> CheckpointError {
        let found = located.place.dtype.to_string();
        CheckpointError::WrongType {
            file: self.path(located),
            tensor: name.to_owned(),
            found,
            accepted,
        }
    }

    fn path(&self, located: &Located) -> PathBuf {
        self.files[located.file].path.clone()
    }

    /// The tensor's data; the range was checked against this map when the header was read.
    fn bytes(&self, located: &Located) -> &[u8] {
        &self.files[located.file].map[located.place.bytes.clone()]
    }
}

fn map_file(path: &Path) -> Result<Mmap, CheckpointError> {
    let unreadable = |source| CheckpointError::Unreadable { file: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    // SAFETY: the map is read-only and checkpoint files do not change while they are served; that is a condition on
    // whoever owns the folder, as with every mapped file. All values are read as bytes, so no bit pattern is invalid.
    unsafe { Mmap::map(&file) }.map_err(unreadable)
}

fn read_index(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let unreadable =
        |source: io::Error| CheckpointError::Unreadable { file: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > INDEX_BYTES_MAX {
        return Err(CheckpointError::IndexTooLarge {
            file: path.to_owned(),
            bytes,
            limit: INDEX_BYTES_MAX,
        });
    }
    let mut content = Vec::new();
    file.take(INDEX_BYTES_MAX).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

fn no_weights(directory: &Path) -> CheckpointError {
    let pickle = PICKLE_FILES.into_iter().find(|file| directory.join(file).is_file());
    match pickle {
        Some(file) => {
            CheckpointError::PickleOnly { directory: directory.to_owned(), file: file.to_owned() }
        }
        None => CheckpointError::NoWeights { directory: directory.to_owned() },
    }
}
