//! The CPU backend: bf16 weights, f32 activations, cache and sums; rows to experts travel as bf16.
//!
//! The cache stays f32: rounded to bf16 it made gates choose other experts, which moved logits a thousand times more
//! than everything else on this path together. A CPU has the memory.

use super::attention::{Attend, CachePart, Piece, QueryPiece, attend};
use super::launch::Instructions;
use super::pack::{PackedShape, Tiles, pack, packed_bytes};
use super::path::{KernelPath, PathUnavailable};
use super::rows::{narrow, widen};
use super::{matmul, rows};
use crate::backend::{
    Backend, CacheWidth, Latent, MatrixLayout, MatrixSize, Routing, RowLayout, Split, WeightRows,
    WeightTypes,
};
use crate::config::{Gate, Rope, RopePairing};
use crate::executor::{CacheShape, RowFormat};
use crate::reference::{HostTensor, angles, gate::route, rope_rows, select_rows, split_columns};

/// Computes with the instructions it was made for.
#[derive(Clone, Copy, Debug)]
pub struct CpuBackend {
    instructions: Instructions,
}

impl CpuBackend {
    /// A backend on `path`.
    ///
    /// # Errors
    /// [`PathUnavailable`] when the processor lacks the instructions, and for [`KernelPath::Reference`], which is
    /// another backend.
    pub fn new(path: KernelPath) -> Result<Self, PathUnavailable> {
        Ok(Self { instructions: Instructions::detect(path)? })
    }
}

/// A packed projection.
#[derive(Debug)]
pub struct CpuMatrix {
    shape: PackedShape,
    tiles: Tiles,
}

/// An embedding table `[rows, columns]`, bf16.
#[derive(Debug)]
pub struct CpuTable {
    columns: usize,
    values: Vec<u16>,
}

/// The rows of a pass and the cos and sin of each row's angles.
#[derive(Debug)]
pub struct CpuRows {
    layout: RowLayout,
    angles: HostTensor,
}

/// One layer's cache: latent and roped key, or keys and values.
#[derive(Debug)]
pub struct CpuCache {
    width: CacheWidth,
    first: CachePart,
    second: CachePart,
}

impl CpuCache {
    fn store(&mut self, layout: &RowLayout, first: &HostTensor, second: &HostTensor) {
        for (part, source) in [(&mut self.first, first), (&mut self.second, second)] {
            for (index, row) in layout.rows.iter().enumerate() {
                let slot = layout.slot(row.segment, row.position);
                let target = &mut part.values[slot * part.columns..][..part.columns];
                target.copy_from_slice(source.row(index));
            }
        }
    }
}

impl WeightTypes for CpuBackend {
    type Matrix = CpuMatrix;
    type Vector = Vec<f32>;
    type Table = CpuTable;
}

impl Backend for CpuBackend {
    type Tensor = HostTensor;
    type Rows = CpuRows;
    type Cache = CpuCache;

    fn matrix(&self, source: &dyn WeightRows, layout: MatrixLayout) -> CpuMatrix {
        let (shape, tiles) = pack(source, layout);
        CpuMatrix { shape, tiles }
    }

    fn table(&self, source: &dyn WeightRows) -> CpuTable {
        let MatrixSize { rows, columns } = source.size();
        let mut values = Vec::with_capacity(rows * columns);
        let mut buffer = vec![0.0; columns];
        for row in 0..rows {
            source.read_row(row, &mut buffer);
            values.extend(buffer.iter().map(|value| narrow(*value)));
        }
        CpuTable { columns, values }
    }

    fn vector(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn cache(&self, width: CacheWidth, shape: CacheShape) -> CpuCache {
        let positions = shape.block_count * shape.block_tokens;
        let (first, second) = width.parts();
        let part = |columns| CachePart { columns, values: vec![0.0; positions * columns] };
        CpuCache { width, first: part(first), second: part(second) }
    }

    fn matrix_bytes(&self, size: MatrixSize, layout: MatrixLayout) -> u64 {
        packed_bytes(size, layout)
    }

    fn table_bytes(&self, size: MatrixSize) -> u64 {
        size.rows as u64 * size.columns as u64 * 2
    }

    fn cache_position_bytes(&self, width: CacheWidth) -> u64 {
        let (first, second) = width.parts();
        (first + second) as u64 * 4
    }

    fn rows(&self, layout: &RowLayout, rope: &Rope) -> CpuRows {
        CpuRows { layout: layout.clone(), angles: angles(layout, rope) }
    }

    fn embed(&self, table: &CpuTable, rows: &CpuRows) -> HostTensor {
        let columns = table.columns;
        let mut output = HostTensor::zeros(rows.layout.rows.len(), columns);
        for (index, row) in rows.layout.rows.iter().enumerate() {
            let source = &table.values[row.token_id as usize * columns..][..columns];
            for (target, bits) in output.row_mut(index).iter_mut().zip(source) {
                *target = widen(*bits);
            }
        }
        output
    }

    fn rms_norm(&self, input: &HostTensor, weight: &Vec<f32>, eps: f32) -> HostTensor {
        rows::rms_norm(self.instructions, input, weight, eps)
    }

    fn project(
        &self,
        input: &HostTensor,
        weight: &CpuMatrix,
        bias: Option<&Vec<f32>>,
    ) -> HostTensor {
        let bias = bias.map(Vec::as_slice);
        matmul::project(self.instructions, input, (weight.shape, &weight.tiles), bias)
    }

    fn split(&self, input: &HostTensor, split: Split) -> (HostTensor, HostTensor) {
        split_columns(input, split)
    }

    fn add(&self, target: &mut HostTensor, other: &HostTensor) {
        rows::add(&mut target.values, &other.values);
    }

    fn silu_mul(&self, gate: &mut HostTensor, up: &HostTensor) {
        rows::silu_mul(self.instructions, gate, up);
    }

    fn rope(&self, target: &mut HostTensor, rows: &CpuRows, pairing: RopePairing) {
        rope_rows(target, &rows.angles, pairing);
    }

    fn store_latent(&self, cache: &mut CpuCache, rows: &CpuRows, latent: Latent<'_, Self>) {
        cache.store(&rows.layout, latent.latent, latent.rope);
    }

    fn attend_latent(
        &self,
        cache: &CpuCache,
        rows: &CpuRows,
        query: Latent<'_, Self>,
        scale: f32,
    ) -> HostTensor {
        let (latent, rope) = cache.width.parts();
        let mut output = HostTensor::zeros(query.latent.rows, query.latent.columns);
        let whole = |part, width| Piece { part, first: 0, width };
        let work = Attend {
            layout: &rows.layout,
            scale,
            heads: output.columns / latent.max(1),
            key: vec![whole(&cache.first, latent), whole(&cache.second, rope)],
            value: vec![whole(&cache.first, latent)],
            query: vec![
                QueryPiece { tensor: query.latent, first: 0, width: latent },
                QueryPiece { tensor: query.rope, first: 0, width: rope },
            ],
            output: &mut output,
            output_first: 0,
        };
        attend(self.instructions, work);
        output
    }

    fn store_keys_values(
        &self,
        cache: &mut CpuCache,
        rows: &CpuRows,
        keys: &HostTensor,
        values: &HostTensor,
    ) {
        cache.store(&rows.layout, keys, values);
    }

    fn attend_grouped(
        &self,
        cache: &CpuCache,
        rows: &CpuRows,
        query: &HostTensor,
        scale: f32,
    ) -> HostTensor {
        let mut output = HostTensor::zeros(query.rows, query.columns);
        let CacheWidth::KeysValues { kv_heads, head_dim } = cache.width else {
            return output;
        };
        let group = query.columns / (kv_heads * head_dim).max(1);
        for kv_head in 0..kv_heads {
            let first = kv_head * group * head_dim;
            let piece = |part| vec![Piece { part, first: kv_head * head_dim, width: head_dim }];
            let work = Attend {
                layout: &rows.layout,
                scale,
                heads: group,
                key: piece(&cache.first),
                value: piece(&cache.second),
                query: vec![QueryPiece { tensor: query, first, width: head_dim }],
                output: &mut output,
                output_first: first,
            };
            attend(self.instructions, work);
        }
        output
    }

    fn gate(
        &self,
        input: &HostTensor,
        weight: &CpuMatrix,
        bias: Option<&Vec<f32>>,
        gate: &Gate,
    ) -> Routing {
        route(&self.project(input, weight, None), bias.map(Vec::as_slice), gate)
    }

    fn combine(
        &self,
        residual: &mut HostTensor,
        routing: &Routing,
        outputs: &[&[u8]],
        shared: Option<&HostTensor>,
    ) {
        rows::combine(residual, routing, outputs, shared);
    }

    fn row_format(&self) -> RowFormat {
        RowFormat::Bf16
    }

    fn rows_to_bytes(&self, input: &HostTensor) -> Vec<u8> {
        rows::narrow_all(self.instructions, &input.values)
    }

    fn rows_from_bytes(&self, columns: usize, payload: &[u8], picked: &[u32]) -> HostTensor {
        let mut output = HostTensor::zeros(picked.len(), columns);
        for (index, &row) in picked.iter().enumerate() {
            let source = &payload[row as usize * columns * 2..][..columns * 2];
            for (target, bytes) in output.row_mut(index).iter_mut().zip(source.as_chunks().0) {
                *target = widen(u16::from_le_bytes(*bytes));
            }
        }
        output
    }

    fn select(&self, input: &HostTensor, picked: &[u32]) -> HostTensor {
        select_rows(input, picked)
    }

    fn download(&self, input: &HostTensor) -> Vec<f32> {
        input.values.clone()
    }
}
