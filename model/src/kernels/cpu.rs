//! The CPU backend: bf16 weights, f32 activations, cache and sums; rows to experts travel as bf16, and experts compute
//! on bf16 throughout.

use super::attention::{Attention, Heads, QueryPiece, attend};
use super::cache::{CpuCache, HeadWidth, position_bytes};
use super::disjoint::Disjoint;
use super::dot::DotMatrix;
use super::experts::{ExpertWork, run_experts};
use super::launch::Instructions;
use super::pack::{PackedShape, Packer, Tiles, packed_bytes};
use super::path::{KernelPath, PathUnavailable};
use super::rows::{narrow, widen};
use super::split::{Cut, in_parallel};
use super::weights::WeightMemory;
use super::{matmul, rows};
use crate::backend::{
    Backend, CacheWidth, Latent, MatrixLayout, MatrixSize, NetworkCall, Routing, RowLayout, Split,
    WeightRows, WeightTypes, run_networks,
};
use crate::buffers::Buffers;
use crate::config::{Gate, Rope, RopePairing};
use crate::executor::{CacheShape, RowFormat};
use crate::parallel::{Parallel, Serial};
use crate::reference::{HostTensor, angles, gate::route, rope_rows, select_rows};
use std::sync::Arc;

/// Computes with the instructions and threads it was made for.
#[derive(Clone, Debug)]
pub struct CpuBackend {
    instructions: Instructions,
    parallel: Arc<dyn Parallel>,
    memory: Arc<WeightMemory>,
    buffers: Buffers,
}

impl CpuBackend {
    /// A backend on `path`.
    ///
    /// # Errors
    /// [`PathUnavailable`] when the processor lacks the instructions, and for [`KernelPath::Reference`], which is
    /// another backend.
    pub fn new(path: KernelPath) -> Result<Self, PathUnavailable> {
        Self::with_threads(path, Arc::new(Serial))
    }

    /// A backend on `path` that cuts its work for `parallel`. How it is cut changes no result.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_threads(
        path: KernelPath,
        parallel: Arc<dyn Parallel>,
    ) -> Result<Self, PathUnavailable> {
        let instructions = Instructions::detect(path)?;
        Ok(Self { instructions, parallel, memory: Arc::default(), buffers: Buffers::default() })
    }

    fn context(&self) -> rows::Context<'_> {
        (self.instructions, &*self.parallel, &self.buffers)
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

impl CpuMatrix {
    /// For dot products of bf16 rows, unless it is kept otherwise.
    fn dot(&self) -> Option<DotMatrix<'_>> {
        let (lines, scales) = match &self.tiles {
            Tiles::Bf16(lines) | Tiles::Rounded(lines) => (lines, None),
            Tiles::Scaled { lines, scales } => (lines, Some(&**scales)),
            Tiles::F32(_) => return None,
        };
        (self.shape.groups == 1).then_some(DotMatrix { shape: self.shape, lines, scales })
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
        let packer = Packer { memory: &self.memory, parallel: &*self.parallel };
        let (shape, tiles) = packer.pack(source, layout);
        CpuMatrix { shape, tiles }
    }

    fn table(&self, source: &dyn WeightRows) -> CpuTable {
        let MatrixSize { rows, columns } = source.size();
        let mut values = vec![0; rows * columns];
        let target = Disjoint::new(&mut values);
        in_parallel(&*self.parallel, Cut::rows(rows, columns), &|rows| {
            let mut buffer = vec![0.0; columns];
            for row in rows {
                source.read_row(row, &mut buffer);
                // SAFETY: each row is written by the one part that has it.
                let target = unsafe { target.slice(row * columns..(row + 1) * columns) };
                for (target, value) in target.iter_mut().zip(&buffer) {
                    *target = narrow(*value);
                }
            }
        });
        CpuTable { columns, values }
    }

    fn vector(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn cache(&self, width: CacheWidth, shape: CacheShape) -> CpuCache {
        CpuCache::new(width, shape)
    }

    fn matrix_bytes(&self, size: MatrixSize, layout: MatrixLayout) -> u64 {
        packed_bytes(size, layout)
    }

    fn table_bytes(&self, size: MatrixSize) -> u64 {
        size.rows as u64 * size.columns as u64 * 2
    }

    fn cache_position_bytes(&self, width: CacheWidth) -> u64 {
        position_bytes(width)
    }

    fn rows(&self, layout: &RowLayout, rope: &Rope) -> CpuRows {
        CpuRows { layout: layout.clone(), angles: angles(layout, rope) }
    }

    fn embed(&self, table: &CpuTable, rows: &CpuRows) -> HostTensor {
        let columns = table.columns;
        let mut output = HostTensor::reused(&self.buffers, rows.layout.rows.len(), columns);
        for (index, row) in rows.layout.rows.iter().enumerate() {
            let source = &table.values[row.token_id as usize * columns..][..columns];
            for (target, bits) in output.row_mut(index).iter_mut().zip(source) {
                *target = widen(*bits);
            }
        }
        output
    }

    fn rms_norm(&self, input: &HostTensor, weight: &Vec<f32>, eps: f32) -> HostTensor {
        rows::rms_norm(self.context(), input, weight, eps)
    }

    fn project(
        &self,
        input: &HostTensor,
        weight: &CpuMatrix,
        bias: Option<&Vec<f32>>,
    ) -> HostTensor {
        let bias = bias.map(Vec::as_slice);
        matmul::project(self.context(), input, (weight.shape, &weight.tiles), bias)
    }

    fn split(&self, input: &HostTensor, split: Split) -> (HostTensor, HostTensor) {
        rows::split(self.context(), input, split)
    }

    fn add(&self, target: &mut HostTensor, other: &HostTensor) {
        rows::add(self.context(), target, other);
    }

    fn silu_mul(&self, gate: &mut HostTensor, up: &HostTensor) {
        rows::silu_mul(self.context(), gate, up);
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
        let CacheWidth::Latent { latent, rope } = cache.width else {
            return HostTensor::zeros(query.latent.rows, query.latent.columns);
        };
        let heads = query.latent.columns / latent.max(1);
        let work = Attention {
            layout: &rows.layout,
            scale,
            keys: Heads { part: &cache.keys, width: HeadWidth::new(latent + rope) },
            values: Heads { part: &cache.keys, width: HeadWidth::new(latent) },
            query: &[
                QueryPiece { tensor: query.latent, width: latent },
                QueryPiece { tensor: query.rope, width: rope },
            ],
            heads,
            group: heads,
        };
        attend(self.context(), &work)
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
        let CacheWidth::KeysValues { kv_heads, head_dim } = cache.width else {
            return HostTensor::zeros(query.rows, query.columns);
        };
        let width = HeadWidth::new(head_dim);
        let heads = query.columns / head_dim.max(1);
        let work = Attention {
            layout: &rows.layout,
            scale,
            keys: Heads { part: &cache.keys, width },
            values: Heads { part: &cache.values, width },
            query: &[QueryPiece { tensor: query, width: head_dim }],
            heads,
            group: heads / kv_heads.max(1),
        };
        attend(self.context(), &work)
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
        rows::combine(self.context(), residual, routing, outputs, shared);
    }

    fn experts(
        &self,
        calls: &[NetworkCall<'_, Self>],
        row_length: usize,
        payload: &[u8],
    ) -> Vec<u8> {
        let works: Option<Vec<ExpertWork<'_>>> = calls.iter().map(expert_work).collect();
        match works {
            Some(works) if self.instructions.round_activations() => {
                run_experts(self.context(), &works, (row_length, payload))
            }
            Some(_) | None => run_networks(self, calls, row_length, payload),
        }
    }

    fn row_format(&self) -> RowFormat {
        RowFormat::Bf16
    }

    fn rows_to_bytes(&self, input: &HostTensor) -> Vec<u8> {
        rows::narrow_all(self.context(), input)
    }

    fn rows_from_bytes(&self, columns: usize, payload: &[u8], picked: &[u32]) -> HostTensor {
        let mut output = HostTensor::reused(&self.buffers, picked.len(), columns);
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

fn expert_work<'a>(call: &NetworkCall<'a, CpuBackend>) -> Option<ExpertWork<'a>> {
    let NetworkCall { network, rows } = *call;
    let (gate, up, down) = (network.gate.dot()?, network.up.dot()?, network.down.dot()?);
    Some(ExpertWork { gate, up, down, rows })
}
