//! Weights as the matrix kernel streams them.
//!
//! Outputs go in tiles of sixteen. A tile holds, for each pair of inputs (2i, 2i + 1), the sixteen outputs' two
//! weights: in bf16 one 64-byte line with the even input in the low halves.

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

/// Tiles of all groups, one after the other; the last tile of a group is filled up with zeros.
#[derive(Debug)]
pub(super) enum Tiles {
    Bf16(Vec<PairBf16>),
    F32(Vec<PairF32>),
}

/// Sizes of a packed matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedShape {
    pub groups: usize,
    /// Outputs and inputs of one group.
    pub outputs: usize,
    pub inner: usize,
}

impl PackedShape {
    pub(super) fn new(size: MatrixSize, groups: usize) -> Self {
        Self { groups, outputs: size.rows / groups.max(1), inner: size.columns }
    }

    /// Lines of one tile.
    pub(super) fn pairs(self) -> usize {
        self.inner.div_ceil(2)
    }

    /// Tiles of one group.
    pub(super) fn tiles(self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    fn lines(self) -> usize {
        self.groups * self.tiles() * self.pairs()
    }
}

/// Bytes of the packed form.
pub(super) fn packed_bytes(size: MatrixSize, layout: MatrixLayout) -> u64 {
    let line = match layout.precision {
        Precision::Working => size_of::<PairBf16>(),
        Precision::Exact => size_of::<PairF32>(),
    };
    PackedShape::new(size, layout.groups).lines() as u64 * line as u64
}

/// Packs row by row.
pub(super) fn pack(source: &dyn WeightRows, layout: MatrixLayout) -> (PackedShape, Tiles) {
    let shape = PackedShape::new(source.size(), layout.groups);
    let tiles = match layout.precision {
        Precision::Working => Tiles::Bf16(pack_lines(source, shape)),
        Precision::Exact => Tiles::F32(pack_lines(source, shape)),
    };
    (shape, tiles)
}

fn pack_lines<P: Pair>(source: &dyn WeightRows, shape: PackedShape) -> Vec<P> {
    let mut lines = vec![P::ZERO; shape.lines()];
    let mut weights = vec![0.0; shape.inner];
    for row in 0..shape.groups * shape.outputs {
        source.read_row(row, &mut weights);
        let (group, output) = (row / shape.outputs, row % shape.outputs);
        let tile = group * shape.tiles() + output / LANES;
        let lines = &mut lines[tile * shape.pairs()..][..shape.pairs()];
        for (line, pair) in lines.iter_mut().zip(weights.chunks(2)) {
            for (input, weight) in pair.iter().enumerate() {
                line.set(output % LANES, input, *weight);
            }
        }
    }
    lines
}
