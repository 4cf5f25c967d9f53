//! Weights as the matrix kernel streams them.
//!
//! Outputs go in tiles of sixteen. A tile holds, for each pair of inputs (2i, 2i + 1), the sixteen outputs' two
//! weights: in bf16 one 64-byte line with the even input in the low halves. Scaled weights have, beside it, sixteen
//! scales for each tile and block of inputs.

use super::disjoint::Disjoint;
use super::lanes::{LANES, Lanes};
use super::rows::narrow;
use super::split::{Cut, in_parallel};
use super::weights::{Lines, WeightMemory, Zeroed};
use crate::backend::{MatrixLayout, MatrixSize, Precision, WeightRows};
use crate::parallel::Parallel;
use std::ops::Range;

/// Sixteen outputs × two inputs in bf16.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PairBf16([u32; LANES]);

impl PairBf16 {
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; LANES] {
        &self.0
    }
}

/// Sixteen outputs × two inputs in f32: the even input first.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PairF32([[f32; LANES]; 2]);

// SAFETY: any bits are a value; aligned to 64 bytes.
unsafe impl Zeroed for PairBf16 {}
// SAFETY: as above.
unsafe impl Zeroed for PairF32 {}
// SAFETY: as above.
unsafe impl Zeroed for ScaleLine {}

/// One line of a tile.
pub(super) trait Pair: Zeroed + Send + Sync + 'static {
    /// Weights of the even and the odd input.
    fn widen<L: Lanes>(&self) -> (L, L);

    /// Writes the weight of input 0 (even) or 1 (odd); a lane is written once.
    fn set(&mut self, lane: usize, input: usize, weight: f32);
}

impl Pair for PairBf16 {
    #[inline(always)]
    fn widen<L: Lanes>(&self) -> (L, L) {
        L::widen_pairs(&self.0)
    }

    fn set(&mut self, lane: usize, input: usize, weight: f32) {
        let bits = u32::from(narrow(weight));
        self.0[lane] |= bits << (16 * input);
    }
}

impl Pair for PairF32 {
    #[inline(always)]
    fn widen<L: Lanes>(&self) -> (L, L) {
        (L::load(&self.0[0]), L::load(&self.0[1]))
    }

    fn set(&mut self, lane: usize, input: usize, weight: f32) {
        self.0[input][lane] = weight;
    }
}

/// Scales of sixteen outputs for one block of inputs.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct ScaleLine(pub [f32; LANES]);

/// Tiles of all groups, one after the other; the last tile of a group is filled up with zeros.
#[derive(Debug)]
pub(super) enum Tiles {
    Bf16(Lines<PairBf16>),
    F32(Lines<PairF32>),
    Scaled {
        lines: Lines<PairBf16>,
        scales: Lines<ScaleLine>,
    },
    /// As `Bf16`; activations are rounded too.
    Rounded(Lines<PairBf16>),
}

/// Sizes of a packed matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedShape {
    pub groups: usize,
    /// Outputs and inputs of one group.
    pub outputs: usize,
    pub inner: usize,
    /// Inputs that share a scale; all of them when there are no scales. Even, unless it is `inner`.
    pub block: usize,
}

impl PackedShape {
    fn new(size: MatrixSize, layout: MatrixLayout) -> Self {
        let inner = size.columns;
        let block = match layout.precision {
            Precision::Working | Precision::Rounded | Precision::Exact => inner,
            Precision::ScaledBlocks { columns } => columns.clamp(1, inner.max(1)),
        };
        Self { groups: layout.groups, outputs: size.rows / layout.groups.max(1), inner, block }
    }

    /// Lines of one tile.
    pub(super) fn pairs(self) -> usize {
        self.inner.div_ceil(2)
    }

    /// Lines of one block of inputs; the last block may have fewer.
    pub(super) fn block_pairs(self) -> usize {
        self.block.div_ceil(2)
    }

    /// Blocks of inputs.
    pub(super) fn blocks(self) -> usize {
        self.inner.div_ceil(self.block.max(1))
    }

    /// Tiles of one group.
    pub(super) fn tiles(self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// The matrix's rows in a tile, counted over all groups.
    fn rows_of(self, tile: usize) -> Range<usize> {
        let (group, first) = (tile / self.tiles(), tile % self.tiles() * LANES);
        let start = group * self.outputs;
        start + first..start + self.outputs.min(first + LANES)
    }

    fn lines(self) -> usize {
        self.groups * self.tiles() * self.pairs()
    }

    fn scale_lines(self) -> usize {
        self.groups * self.tiles() * self.blocks()
    }
}

/// What a matrix is really kept as.
fn kept(layout: MatrixLayout) -> MatrixLayout {
    match layout.precision {
        // A pair of inputs must not straddle two scales. No published checkpoint has such blocks.
        Precision::ScaledBlocks { columns } if columns % 2 == 1 => {
            MatrixLayout { precision: Precision::Exact, ..layout }
        }
        // Rounded activations are cut in no groups.
        Precision::Rounded if layout.groups != 1 => {
            MatrixLayout { precision: Precision::Working, ..layout }
        }
        Precision::Working
        | Precision::Rounded
        | Precision::Exact
        | Precision::ScaledBlocks { .. } => layout,
    }
}

/// Bytes of the packed form.
pub(super) fn packed_bytes(size: MatrixSize, layout: MatrixLayout) -> u64 {
    let layout = kept(layout);
    let shape = PackedShape::new(size, layout);
    let bytes = match layout.precision {
        Precision::Working | Precision::Rounded => shape.lines() * size_of::<PairBf16>(),
        Precision::Exact => shape.lines() * size_of::<PairF32>(),
        Precision::ScaledBlocks { .. } => {
            shape.lines() * size_of::<PairBf16>() + shape.scale_lines() * size_of::<ScaleLine>()
        }
    };
    bytes as u64
}

/// Where packed weights go, and who packs.
#[derive(Clone, Copy)]
pub(super) struct Packer<'a> {
    pub memory: &'a WeightMemory,
    pub parallel: &'a dyn Parallel,
}

impl Packer<'_> {
    /// Packs tile by tile.
    pub(super) fn pack(
        self,
        source: &dyn WeightRows,
        layout: MatrixLayout,
    ) -> (PackedShape, Tiles) {
        let layout = kept(layout);
        let shape = PackedShape::new(source.size(), layout);
        let plain = |row: usize, weights: &mut [f32], _: &mut [f32]| source.read_row(row, weights);
        let tiles = match layout.precision {
            Precision::Working => Tiles::Bf16(self.lines(shape, &plain, &mut [])),
            Precision::Rounded => Tiles::Rounded(self.lines(shape, &plain, &mut [])),
            Precision::Exact => Tiles::F32(self.lines(shape, &plain, &mut [])),
            Precision::ScaledBlocks { .. } => {
                let mut scales = self.memory.zeros::<ScaleLine>(shape.scale_lines());
                let scaled = |row: usize, weights: &mut [f32], scales: &mut [f32]| {
                    source.read_scaled_row(row, weights, scales);
                };
                let lines = self.lines(shape, &scaled, &mut scales);
                Tiles::Scaled { lines, scales }
            }
        };
        (shape, tiles)
    }

    fn lines<P: Pair>(
        self,
        shape: PackedShape,
        read: &ReadRow<'_>,
        scales: &mut [ScaleLine],
    ) -> Lines<P> {
        let mut lines = self.memory.zeros::<P>(shape.lines());
        let (pairs, blocks) = (shape.pairs(), shape.blocks());
        let scaled = !scales.is_empty();
        let (target, scales) = (Disjoint::new(&mut lines), Disjoint::new(scales));
        let tiles = Cut::new(shape.groups * shape.tiles(), pairs * size_of::<P>(), 1);
        in_parallel(self.parallel, tiles, &|tiles| {
            let mut weights = vec![0.0; shape.inner];
            let mut row_scales = vec![0.0; blocks];
            for tile in tiles {
                // SAFETY: each tile is packed by the one part that has it.
                let lines = unsafe { target.slice(tile * pairs..(tile + 1) * pairs) };
                for (lane, row) in shape.rows_of(tile).enumerate() {
                    read(row, &mut weights, &mut row_scales);
                    set_lane(lines, lane, &weights);
                    if scaled {
                        // SAFETY: as above.
                        let scales = unsafe { scales.slice(tile * blocks..(tile + 1) * blocks) };
                        for (target, scale) in scales.iter_mut().zip(&row_scales) {
                            target.0[lane] = *scale;
                        }
                    }
                }
            }
        });
        lines
    }
}

/// Writes a row's weights and, when there are any, its scales.
type ReadRow<'a> = dyn Fn(usize, &mut [f32], &mut [f32]) + Sync + 'a;

fn set_lane<P: Pair>(lines: &mut [P], lane: usize, weights: &[f32]) {
    for (line, pair) in lines.iter_mut().zip(weights.chunks(2)) {
        for (input, weight) in pair.iter().enumerate() {
            line.set(lane, input, *weight);
        }
    }
}
