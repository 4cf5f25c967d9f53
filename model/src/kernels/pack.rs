//! Weights as the matrix kernel streams them.
//!
//! Outputs go in tiles of sixteen. A tile holds, for each pair of inputs (2i, 2i + 1), the sixteen outputs' two
//! weights: in bf16 one 64-byte line with the even input in the low halves. Scaled weights have, beside it, sixteen
//! scales for each tile and block of inputs.

use super::lanes::{LANES, Lanes};
use crate::backend::{MatrixLayout, MatrixSize, Precision, WeightRows};
use half::bf16;

/// Sixteen outputs × two inputs in bf16.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PairBf16([u32; LANES]);

/// Sixteen outputs × two inputs in f32: the even input first.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PairF32([[f32; LANES]; 2]);

/// One line of a tile.
pub(super) trait Pair: Copy + 'static {
    const ZERO: Self;

    /// Weights of the even and the odd input.
    fn widen<L: Lanes>(&self) -> (L, L);

    /// Writes the weight of input 0 (even) or 1 (odd); a lane is written once.
    fn set(&mut self, lane: usize, input: usize, weight: f32);
}

impl Pair for PairBf16 {
    const ZERO: Self = Self([0; LANES]);

    #[inline(always)]
    fn widen<L: Lanes>(&self) -> (L, L) {
        L::widen_pairs(&self.0)
    }

    fn set(&mut self, lane: usize, input: usize, weight: f32) {
        let bits = u32::from(bf16::from_f32(weight).to_bits());
        self.0[lane] |= bits << (16 * input);
    }
}

impl Pair for PairF32 {
    const ZERO: Self = Self([[0.0; LANES]; 2]);

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
    Bf16(Vec<PairBf16>),
    F32(Vec<PairF32>),
    Scaled { lines: Vec<PairBf16>, scales: Vec<ScaleLine> },
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
            Precision::Working | Precision::Exact => inner,
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
        Precision::Working | Precision::Exact | Precision::ScaledBlocks { .. } => layout,
    }
}

/// Bytes of the packed form.
pub(super) fn packed_bytes(size: MatrixSize, layout: MatrixLayout) -> u64 {
    let layout = kept(layout);
    let shape = PackedShape::new(size, layout);
    let bytes = match layout.precision {
        Precision::Working => shape.lines() * size_of::<PairBf16>(),
        Precision::Exact => shape.lines() * size_of::<PairF32>(),
        Precision::ScaledBlocks { .. } => {
            shape.lines() * size_of::<PairBf16>() + shape.scale_lines() * size_of::<ScaleLine>()
        }
    };
    bytes as u64
}

/// Packs row by row.
pub(super) fn pack(source: &dyn WeightRows, layout: MatrixLayout) -> (PackedShape, Tiles) {
    let layout = kept(layout);
    let shape = PackedShape::new(source.size(), layout);
    let tiles = match layout.precision {
        Precision::Working => {
            Tiles::Bf16(pack_lines(shape, |row, weights| source.read_row(row, weights)))
        }
        Precision::Exact => {
            Tiles::F32(pack_lines(shape, |row, weights| source.read_row(row, weights)))
        }
        Precision::ScaledBlocks { .. } => {
            let mut scales = vec![ScaleLine([0.0; LANES]); shape.scale_lines()];
            let mut row_scales = vec![0.0; shape.blocks()];
            let lines = pack_lines(shape, |row, weights| {
                source.read_scaled_row(row, weights, &mut row_scales);
                let (tile, lane) = place(shape, row);
                let target = &mut scales[tile * shape.blocks()..][..shape.blocks()];
                for (target, scale) in target.iter_mut().zip(&row_scales) {
                    target.0[lane] = *scale;
                }
            });
            Tiles::Scaled { lines, scales }
        }
    };
    (shape, tiles)
}

/// Tile and lane of a row.
fn place(shape: PackedShape, row: usize) -> (usize, usize) {
    let (group, output) = (row / shape.outputs, row % shape.outputs);
    (group * shape.tiles() + output / LANES, output % LANES)
}

fn pack_lines<P: Pair>(shape: PackedShape, mut read: impl FnMut(usize, &mut [f32])) -> Vec<P> {
    let mut lines = vec![P::ZERO; shape.lines()];
    let mut weights = vec![0.0; shape.inner];
    for row in 0..shape.groups * shape.outputs {
        read(row, &mut weights);
        let (tile, lane) = place(shape, row);
        let lines = &mut lines[tile * shape.pairs()..][..shape.pairs()];
        for (line, pair) in lines.iter_mut().zip(weights.chunks(2)) {
            for (input, weight) in pair.iter().enumerate() {
                line.set(lane, input, *weight);
            }
        }
    }
    lines
}
