//! The plain f32 backend: obvious loops, one order of summation, no speed. Every faster kernel is checked against it.

mod attention;
pub mod gate;
mod ops;

use crate::backend::{
    Backend, CacheWidth, Latent, MatrixLayout, MatrixSize, Routing, RowLayout, Split, WeightRows,
    WeightTypes,
};
use crate::buffers::Buffers;
use crate::config::{Gate, Rope, RopePairing};
use crate::executor::{CacheShape, RowFormat};
use std::ops::Range;

pub use ops::angles;
pub(crate) use ops::{rope as rope_rows, select as select_rows};

/// Runs on any machine; keeps everything f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

/// `[rows, columns]`, row-major; also what the CPU backend computes on.
#[derive(Debug)]
pub struct HostTensor {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
    /// Where the values go when the tensor is dropped.
    home: Option<Buffers>,
}

impl Clone for HostTensor {
    fn clone(&self) -> Self {
        Self::new(self.rows, self.columns, self.values.clone())
    }
}

impl PartialEq for HostTensor {
    fn eq(&self, other: &Self) -> bool {
        (self.rows, self.columns) == (other.rows, other.columns) && self.values == other.values
    }
}

impl HostTensor {
    /// `values` are `rows · columns`, row-major.
    ///
    /// # Panics
    /// When they are not.
    pub fn new(rows: usize, columns: usize, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), rows * columns, "values of a tensor");
        Self { rows, columns, values, home: None }
    }

    /// Zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self::new(rows, columns, vec![0.0; rows * columns])
    }

    /// Values left over from somewhere else, all to be written.
    pub(crate) fn reused(buffers: &Buffers, rows: usize, columns: usize) -> Self {
        let values = buffers.take(rows * columns);
        Self { rows, columns, values, home: Some(buffers.clone()) }
    }

    /// Values of row `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[self.range(row)]
    }

    /// Values of row `row`, to write.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let range = self.range(row);
        &mut self.values[range]
    }

    fn range(&self, row: usize) -> Range<usize> {
        row * self.columns..(row + 1) * self.columns
    }
}

impl Drop for HostTensor {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.give(std::mem::take(&mut self.values));
        }
    }
}

/// Weights `[groups · outputs, inner]`, row-major.
#[derive(Clone, Debug)]
pub struct ReferenceMatrix {
    groups: usize,
    outputs: usize,
    inner: usize,
    values: Vec<f32>,
}

/// The rows of a pass and the cos and sin of each row's angles.
#[derive(Clone, Debug)]
pub struct ReferenceRows {
    layout: RowLayout,
    /// `[rows, 2 · frequencies]`: cos, then sin, amplitude included.
    angles: HostTensor,
}

/// One layer's cache: `[positions, first]` (latent or keys) and `[positions, second]` (roped key or values).
#[derive(Clone, Debug)]
pub struct ReferenceCache {
    width: CacheWidth,
    first: HostTensor,
    second: HostTensor,
}

impl WeightTypes for ReferenceBackend {
    type Matrix = ReferenceMatrix;
    type Vector = Vec<f32>;
    type Table = HostTensor;
}

impl Backend for ReferenceBackend {
    type Tensor = HostTensor;
    type Rows = ReferenceRows;
    type Cache = ReferenceCache;

    fn matrix(&self, source: &dyn WeightRows, layout: MatrixLayout) -> ReferenceMatrix {
        let mut table = self.table(source);
        let outputs = table.rows / layout.groups;
        ReferenceMatrix {
            groups: layout.groups,
            outputs,
            inner: table.columns,
            values: std::mem::take(&mut table.values),
        }
    }

    fn table(&self, source: &dyn WeightRows) -> HostTensor {
        let MatrixSize { rows, columns } = source.size();
        let mut table = HostTensor::zeros(rows, columns);
        for row in 0..rows {
            source.read_row(row, table.row_mut(row));
        }
        table
    }

    fn vector(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn cache(&self, width: CacheWidth, shape: CacheShape) -> ReferenceCache {
        let positions = shape.block_count * shape.block_tokens;
        let (first, second) = width.parts();
        ReferenceCache {
            width,
            first: HostTensor::zeros(positions, first),
            second: HostTensor::zeros(positions, second),
        }
    }

    fn matrix_bytes(&self, size: MatrixSize, _layout: MatrixLayout) -> u64 {
        self.table_bytes(size)
    }

    fn table_bytes(&self, size: MatrixSize) -> u64 {
        size.rows as u64 * size.columns as u64 * 4
    }

    fn cache_position_bytes(&self, width: CacheWidth) -> u64 {
        let (first, second) = width.parts();
        (first + second) as u64 * 4
    }

    fn rows(&self, layout: &RowLayout, rope: &Rope) -> ReferenceRows {
        ReferenceRows { layout: layout.clone(), angles: angles(layout, rope) }
    }

    fn embed(&self, table: &HostTensor, rows: &ReferenceRows) -> HostTensor {
        let ids: Vec<u32> = rows.layout.rows.iter().map(|row| row.token_id).collect();
        self.select(table, &ids)
    }

    fn rms_norm(&self, input: &HostTensor, weight: &Vec<f32>, eps: f32) -> HostTensor {
        ops::rms_norm(input, weight, eps)
    }

    fn project(
        &self,
        input: &HostTensor,
        weight: &ReferenceMatrix,
        bias: Option<&Vec<f32>>,
    ) -> HostTensor {
        ops::project(input, weight, bias.map(Vec::as_slice))
    }

    fn split(&self, input: &HostTensor, split: Split) -> (HostTensor, HostTensor) {
        ops::split(input, split)
    }

    fn add(&self, target: &mut HostTensor, other: &HostTensor) {
        ops::add(target, other);
    }

    fn silu_mul(&self, gate: &mut HostTensor, up: &HostTensor) {
        ops::silu_mul(gate, up);
    }

    fn rope(&self, target: &mut HostTensor, rows: &ReferenceRows, pairing: RopePairing) {
        ops::rope(target, &rows.angles, pairing);
    }

    fn store_latent(
        &self,
        cache: &mut ReferenceCache,
        rows: &ReferenceRows,
        latent: Latent<'_, Self>,
    ) {
        ops::store(cache, &rows.layout, latent.latent, latent.rope);
    }

    fn attend_latent(
        &self,
        cache: &ReferenceCache,
        rows: &ReferenceRows,
        query: Latent<'_, Self>,
        scale: f32,
    ) -> HostTensor {
        attention::latent(cache, &rows.layout, query, scale)
    }

    fn store_keys_values(
        &self,
        cache: &mut ReferenceCache,
        rows: &ReferenceRows,
        keys: &HostTensor,
        values: &HostTensor,
    ) {
        ops::store(cache, &rows.layout, keys, values);
    }

    fn attend_grouped(
        &self,
        cache: &ReferenceCache,
        rows: &ReferenceRows,
        query: &HostTensor,
        scale: f32,
    ) -> HostTensor {
        attention::grouped(cache, &rows.layout, query, scale)
    }

    fn gate(
        &self,
        input: &HostTensor,
        weight: &ReferenceMatrix,
        bias: Option<&Vec<f32>>,
        gate: &Gate,
    ) -> Routing {
        gate::route(&ops::project(input, weight, None), bias.map(Vec::as_slice), gate)
    }

    fn combine(
        &self,
        residual: &mut HostTensor,
        routing: &Routing,
        outputs: &[&[u8]],
        shared: Option<&HostTensor>,
    ) {
        ops::combine(residual, routing, outputs, shared);
    }

    fn row_format(&self) -> RowFormat {
        RowFormat::F32
    }

    fn rows_to_bytes(&self, input: &HostTensor) -> Vec<u8> {
        input.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn rows_from_bytes(&self, columns: usize, payload: &[u8], picked: &[u32]) -> HostTensor {
        ops::from_bytes(columns, payload, picked)
    }

    fn select(&self, input: &HostTensor, picked: &[u32]) -> HostTensor {
        ops::select(input, picked)
    }

    fn download(&self, input: &HostTensor) -> Vec<f32> {
        input.values.clone()
    }
}

impl CacheWidth {
    /// Values of one position in the cache's two parts: latent and roped key, or keys and values.
    pub(crate) fn parts(self) -> (usize, usize) {
        match self {
            Self::Latent { latent, rope } => (latent, rope),
            Self::KeysValues { kv_heads, head_dim } => (kv_heads * head_dim, kv_heads * head_dim),
        }
    }
}
