//! Checking a tensor by the headers alone.

use safetensors::tensor::Dtype;

use super::{Checkpoint, CheckpointError, Located, SCALE_SUFFIX, StoredValues};
use crate::config::StoredFormat;

/// A tensor whose header entries are what the model needs.
pub(super) enum Found<'a> {
    Plain {
        values: &'a Located,
        /// Wraps the data as what it is.
        wrap: fn(&'a [u8]) -> StoredValues<'a>,
    },
    Blocks {
        values: &'a Located,
        scales: &'a Located,
        /// (rows, columns).
        block: (usize, usize),
    },
}

impl Checkpoint {
    /// Whether tensor `name` is there with `shape`, stored as `format`, and with FP8 its scales too. Reads no data,
    /// so a model of thousands of tensors is checked at once; values of scales are checked by [`Self::tensor`].
    ///
    /// # Errors
    /// As [`Self::tensor`], but for the values.
    pub fn check(
        &self,
        name: &str,
        shape: &[usize],
        format: StoredFormat,
    ) -> Result<(), CheckpointError> {
        self.find(name, shape, format).map(drop)
    }

    pub(super) fn find(
        &self,
        name: &str,
        shape: &[usize],
        format: StoredFormat,
    ) -> Result<Found<'_>, CheckpointError> {
        let values = self.locate(name, shape)?;
        match (format, values.place.dtype) {
            (StoredFormat::Plain, Dtype::F32) => {
                Ok(Found::Plain { values, wrap: StoredValues::F32 })
            }
            (StoredFormat::Plain, Dtype::F16) => {
                Ok(Found::Plain { values, wrap: StoredValues::F16 })
            }
            (StoredFormat::Plain, Dtype::BF16) => {
                Ok(Found::Plain { values, wrap: StoredValues::Bf16 })
            }
            (StoredFormat::Plain, _) => Err(self.wrong_type(name, values, "BF16, F16 or F32")),
            (StoredFormat::Fp8Blocks { rows, columns }, Dtype::F8_E4M3) => {
                let scales = self.find_scales(name, shape, (rows, columns))?;
                Ok(Found::Blocks { values, scales, block: (rows, columns) })
            }
            (StoredFormat::Fp8Blocks { .. }, _) => Err(self.wrong_type(name, values, "F8_E4M3")),
        }
    }

    /// The scales of FP8 tensor `name`; `block` is (rows, columns).
    fn find_scales(
        &self,
        name: &str,
        shape: &[usize],
        block: (usize, usize),
    ) -> Result<&Located, CheckpointError> {
        let (&[height, width], (rows @ 1.., columns @ 1..)) = (shape, block) else {
            let (tensor, shape) = (name.to_owned(), shape.to_vec());
            return Err(CheckpointError::NotBlocks {
                tensor,
                shape,
                rows: block.0,
                columns: block.1,
            });
        };
        let scale_name = format!("{name}{SCALE_SUFFIX}");
        let scales = self.locate(&scale_name, &[height.div_ceil(rows), width.div_ceil(columns)])?;
        if scales.place.dtype == Dtype::F32 {
            return Ok(scales);
        }
        Err(self.wrong_type(&scale_name, scales, "F32"))
    }
}
