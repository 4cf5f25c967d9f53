//! A tensor as it lies in the file, and its exact f32 values.

use half::{bf16, f16};

use crate::fp8::E4M3;

/// One checked tensor. Data stays in the mapped file until it is read.
#[derive(Clone, Debug)]
pub struct StoredTensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: StoredValues<'a>,
}

/// Row-major little-endian values; the bytes carry no alignment.
#[derive(Clone, Debug)]
pub enum StoredValues<'a> {
    F32(&'a [u8]),
    F16(&'a [u8]),
    Bf16(&'a [u8]),
    /// e4m3; element `[r, c]` is `value × scales[r / block_rows, c / block_columns]`. Blocks at the right and
    /// lower edge may be smaller.
    Fp8Blocks {
        bytes: &'a [u8],
        /// `[ceil(rows / block_rows), ceil(columns / block_columns)]`, finite and ≥ 0.
        scales: Vec<f32>,
        block_rows: usize,
        block_columns: usize,
    },
}

impl StoredTensor<'_> {
    /// Product of all dimensions but the last; 1 for a vector.
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, leading)| leading.iter().product())
    }

    /// The last dimension; 1 for a scalar.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes in the file, scales included.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = match &self.values {
            StoredValues::F32(bytes) | StoredValues::F16(bytes) | StoredValues::Bf16(bytes) => {
                bytes.len()
            }
            StoredValues::Fp8Blocks { bytes, scales, .. } => {
                bytes.len() + scales.len() * size_of::<f32>()
            }
        };
        bytes as u64
    }

    /// Writes row `row` to `out`, each value exact in f32 (FP8: one f32 product of value and scale).
    ///
    /// # Panics
    /// When `row` is not below [`Self::rows`] or `out` is not [`Self::columns`] long.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let columns = self.columns();
        assert_eq!(out.len(), columns, "row buffer of {}", self.name);
        let range = row * columns..(row + 1) * columns;
        match &self.values {
            StoredValues::F32(bytes) => read_values(bytes, range, out, f32::from_le_bytes),
            StoredValues::F16(bytes) => {
                read_values(bytes, range, out, |value| f16::from_le_bytes(value).to_f32());
            }
            StoredValues::Bf16(bytes) => {
                read_values(bytes, range, out, |value| bf16::from_le_bytes(value).to_f32());
            }
            StoredValues::Fp8Blocks { bytes, scales, block_rows, block_columns } => {
                let blocks_across = columns.div_ceil(*block_columns);
                let scales = &scales[row / block_rows * blocks_across..][..blocks_across];
                let blocks =
                    bytes[range].chunks(*block_columns).zip(out.chunks_mut(*block_columns));
                for ((bytes, out), &scale) in blocks.zip(scales) {
                    for (out, &byte) in out.iter_mut().zip(bytes) {
                        *out = E4M3[usize::from(byte)] * scale;
                    }
                }
            }
        }
    }

    /// All values, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let columns = self.columns();
        let mut values = vec![0.0; self.rows() * columns];
        if columns > 0 {
            for (row, out) in values.chunks_exact_mut(columns).enumerate() {
                self.read_row(row, out);
            }
        }
        values
    }
}

/// Decodes the elements `range` of `bytes`, `N` bytes each.
fn read_values<const N: usize>(
    bytes: &[u8],
    range: std::ops::Range<usize>,
    out: &mut [f32],
    decode: impl Fn([u8; N]) -> f32,
) {
    let (values, _) = bytes[range.start * N..range.end * N].as_chunks::<N>();
    for (out, value) in out.iter_mut().zip(values) {
        *out = decode(*value);
    }
}
