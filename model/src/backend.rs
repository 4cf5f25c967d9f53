//! The seam between layers and hardware: tensors live where the backend keeps them.
//!
//! Every operation takes a whole batch. The law of all of them: a row's result is the same to the bit whatever the
//! other rows are, and at whatever place in the batch it stands. Two backends agree only within a tolerance.
//!
//! Nothing here hands out host slices of what a backend holds; values leave through [`Backend::download`],
//! [`Backend::rows_to_bytes`] and [`Backend::gate`] and through nothing else.

use crate::config::{Gate, Rope, RopePairing};
use crate::executor::{BlockId, CacheShape, RowFormat};
use crate::layers::feed_forward::GatedFeedForward;
use std::fmt;

/// What weights become where they are kept.
pub trait WeightTypes: fmt::Debug + 'static {
    /// A projection, packed as the backend likes.
    type Matrix: fmt::Debug + Send + Sync;
    /// A norm's weight, a bias.
    type Vector: fmt::Debug + Send + Sync;
    /// An embedding table, read by row.
    type Table: fmt::Debug + Send + Sync;
}

/// The operations that a transformer needs. Shapes are `[rows, columns]`; activations are f32.
pub trait Backend: WeightTypes + Send + Sync {
    /// Activations `[rows, columns]`.
    type Tensor: fmt::Debug + Send + Sync;
    /// What the rows of one pass are: tokens, positions, angles, cache blocks.
    type Rows: fmt::Debug + Send + Sync;
    /// The paged cache of one layer.
    type Cache: fmt::Debug + Send;

    /// Takes a projection's weights.
    fn matrix(&self, source: &dyn WeightRows, layout: MatrixLayout) -> Self::Matrix;

    /// Takes an embedding table.
    fn table(&self, source: &dyn WeightRows) -> Self::Table;

    /// Takes a vector; it stays f32.
    fn vector(&self, values: &[f32]) -> Self::Vector;

    /// Room for every position of one layer. The content means nothing until it is stored.
    fn cache(&self, width: CacheWidth, shape: CacheShape) -> Self::Cache;

    /// Bytes that [`Self::matrix`] takes for weights of this shape.
    fn matrix_bytes(&self, size: MatrixSize, layout: MatrixLayout) -> u64;

    /// Bytes that [`Self::table`] takes.
    fn table_bytes(&self, size: MatrixSize) -> u64;

    /// Bytes of cache for one position of one layer.
    fn cache_position_bytes(&self, width: CacheWidth) -> u64;

    /// Takes the rows of one pass.
    fn rows(&self, layout: &RowLayout, rope: &Rope) -> Self::Rows;

    /// Embedding of every row's token: `[rows, hidden]`.
    fn embed(&self, table: &Self::Table, rows: &Self::Rows) -> Self::Tensor;

    /// `x / sqrt(mean(x²) + eps) · weight` for each row.
    fn rms_norm(&self, input: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Self::Tensor;

    /// `x · Wᵀ (+ bias)`. A matrix of `groups` blocks maps the g-th part of a row to the g-th part of the output.
    fn project(
        &self,
        input: &Self::Tensor,
        weight: &Self::Matrix,
        bias: Option<&Self::Vector>,
    ) -> Self::Tensor;

    /// Cuts each of the row's groups of `first + second` columns in two: `([rows, groups·first], [rows, groups·second])`.
    fn split(&self, input: &Self::Tensor, split: Split) -> (Self::Tensor, Self::Tensor);

    /// `target += other`.
    fn add(&self, target: &mut Self::Tensor, other: &Self::Tensor);

    /// `gate = silu(gate) · up`.
    fn silu_mul(&self, gate: &mut Self::Tensor, up: &Self::Tensor);

    /// Rotates every head of every row by its position; a head is twice as wide as there are frequencies.
    fn rope(&self, target: &mut Self::Tensor, rows: &Self::Rows, pairing: RopePairing);

    /// Writes every row's latent and roped key at its position.
    fn store_latent(&self, cache: &mut Self::Cache, rows: &Self::Rows, latent: Latent<'_, Self>);

    /// Absorbed MLA of every row over positions `0..=` its own:
    /// `softmax((q·c + q_rope·k_rope) · scale) · c`, `[rows, heads·latent]`.
    fn attend_latent(
        &self,
        cache: &Self::Cache,
        rows: &Self::Rows,
        query: Latent<'_, Self>,
        scale: f32,
    ) -> Self::Tensor;

    /// Writes every row's keys and values `[rows, kv_heads·head_dim]` at its position.
    fn store_keys_values(
        &self,
        cache: &mut Self::Cache,
        rows: &Self::Rows,
        keys: &Self::Tensor,
        values: &Self::Tensor,
    );

    /// Grouped-query attention of every row over positions `0..=` its own: `[rows, heads·head_dim]`.
    fn attend_grouped(
        &self,
        cache: &Self::Cache,
        rows: &Self::Rows,
        query: &Self::Tensor,
        scale: f32,
    ) -> Self::Tensor;

    /// Chooses every row's experts. `weight` is an exact matrix, `bias` takes part in the choice alone.
    fn gate(
        &self,
        input: &Self::Tensor,
        weight: &Self::Matrix,
        bias: Option<&Self::Vector>,
        gate: &Gate,
    ) -> Routing;

    /// `residual += Σ wᵢ·Eᵢ + shared`, in f32, experts in gate order and the shared output last.
    /// `outputs[i]` belongs to entry `i` of `routing`, in [`Self::row_format`].
    fn combine(
        &self,
        residual: &mut Self::Tensor,
        routing: &Routing,
        outputs: &[&[u8]],
        shared: Option<&Self::Tensor>,
    );

    /// Runs rows of a payload `[rows, row_length]` in [`Self::row_format`] through networks of one layer: one output row
    /// for each (network, row) pair, in order. The indices are inside the payload.
    fn experts(
        &self,
        calls: &[NetworkCall<'_, Self>],
        row_length: usize,
        payload: &[u8],
    ) -> Vec<u8> {
        run_networks(self, calls, row_length, payload)
    }

    /// How rows travel to experts and back.
    fn row_format(&self) -> RowFormat;

    /// All rows in [`Self::row_format`].
    fn rows_to_bytes(&self, input: &Self::Tensor) -> Vec<u8>;

    /// The rows `picked` of a payload of rows of `columns` values.
    fn rows_from_bytes(&self, columns: usize, payload: &[u8], picked: &[u32]) -> Self::Tensor;

    /// The rows `picked`.
    fn select(&self, input: &Self::Tensor, picked: &[u32]) -> Self::Tensor;

    /// All values, row-major.
    fn download(&self, input: &Self::Tensor) -> Vec<f32>;
}

/// One network and the rows that it gets.
#[derive(Debug)]
pub struct NetworkCall<'a, B: Backend + ?Sized> {
    pub network: &'a GatedFeedForward<B>,
    pub rows: &'a [u32],
}

impl<B: Backend + ?Sized> Clone for NetworkCall<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend + ?Sized> Copy for NetworkCall<'_, B> {}

/// [`Backend::experts`], one network after the other.
pub fn run_networks<B: Backend + ?Sized>(
    backend: &B,
    calls: &[NetworkCall<'_, B>],
    row_length: usize,
    payload: &[u8],
) -> Vec<u8> {
    let rows: usize = calls.iter().map(|call| call.rows.len()).sum();
    let mut outputs = Vec::with_capacity(rows * backend.row_format().row_bytes(row_length));
    for NetworkCall { network, rows } in calls {
        let input = backend.rows_from_bytes(row_length, payload, rows);
        outputs.extend_from_slice(&backend.rows_to_bytes(&network.forward(backend, &input)));
    }
    outputs
}

/// Weights `[rows, columns]` that are read row by row, so that no second copy of a large matrix is ever in memory.
pub trait WeightRows: Sync {
    /// Shape, rows being outputs.
    fn size(&self) -> MatrixSize;

    /// Writes row `row`, exact in f32.
    fn read_row(&self, row: usize, out: &mut [f32]);

    /// Writes row `row` before scaling, and the scale of each of its blocks of inputs; `scales` is as long as there
    /// are blocks. Weights without scales have scale 1.
    fn read_scaled_row(&self, row: usize, values: &mut [f32], scales: &mut [f32]) {
        self.read_row(row, values);
        scales.fill(1.0);
    }
}

/// Outputs and inputs of a projection, over all its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixSize {
    pub rows: usize,
    pub columns: usize,
}

/// How a projection is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixLayout {
    /// Equal, independent blocks stacked by row; the input is cut in as many parts. 1: an ordinary projection.
    pub groups: usize,
    pub precision: Precision,
}

impl MatrixLayout {
    /// An ordinary projection.
    pub const PROJECTION: Self = Self { groups: 1, precision: Precision::Working };
}

/// Whether weights may be rounded to the backend's own format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights as the backend computes fastest; activations keep their precision.
    Working,
    /// As [`Self::Working`], and activations may be rounded to the same format: where no gate depends on the result.
    Rounded,
    /// f32: gates, where a rounded score is another expert.
    Exact,
    /// Values as stored (e4m3 fits bf16 exactly) and one f32 scale for each output and block of `columns` inputs:
    /// each block is summed and then scaled, as FP8 hardware does it.
    ScaledBlocks { columns: usize },
}

/// Values cached for one position of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWidth {
    /// MLA: the normed latent and the roped key that all heads share.
    Latent { latent: usize, rope: usize },
    /// GQA: keys and values of every key/value head.
    KeysValues { kv_heads: usize, head_dim: usize },
}

/// A pair of MLA operands: what meets the latent and what meets the roped key.
#[derive(Debug)]
pub struct Latent<'a, B: Backend + ?Sized> {
    pub latent: &'a B::Tensor,
    pub rope: &'a B::Tensor,
}

impl<B: Backend + ?Sized> Clone for Latent<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend + ?Sized> Copy for Latent<'_, B> {}

/// Where [`Backend::split`] cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub groups: usize,
    pub first: usize,
    pub second: usize,
}

/// The rows of one pass, checked: tokens are in the vocabulary, blocks in the cache and enough of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    pub rows: Vec<LayoutRow>,
    /// Cache blocks of each segment.
    pub blocks: Vec<Vec<BlockId>>,
    pub block_tokens: usize,
}

/// One token of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutRow {
    pub token_id: u32,
    pub position: usize,
    /// Index in [`RowLayout::blocks`].
    pub segment: usize,
}

impl RowLayout {
    /// Place of `position` of a segment in the cache, counted in positions.
    pub fn slot(&self, segment: usize, position: usize) -> usize {
        let block = self.blocks[segment][position / self.block_tokens];
        block.0 as usize * self.block_tokens + position % self.block_tokens
    }
}

/// The experts of every row in gate order, row by row: entry `row · experts_per_row + i`.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    pub experts_per_row: usize,
    pub experts: Vec<u32>,
    pub weights: Vec<f32>,
}
