//! `x · Wᵀ + bias` over packed weights.
//!
//! An output element is (Σ over even inputs) + (Σ over odd inputs) + bias, each sum in ascending order; scaled
//! weights have such a sum for each block of inputs, and the blocks' sums times their scales are added in ascending
//! order. Which rows and tiles are computed side by side never changes that.

use super::lanes::{LANES, Lanes};
use super::launch::{Instructions, Kernel, launch};
use super::pack::{PackedShape, Pair, PairBf16, PairF32, ScaleLine, Tiles};
use crate::reference::HostTensor;

/// `input` `[rows, groups · inner]` → `[rows, groups · outputs]`.
pub(super) fn project(
    instructions: Instructions,
    input: &HostTensor,
    (shape, tiles): (PackedShape, &Tiles),
    bias: Option<&[f32]>,
) -> HostTensor {
    assert_eq!(input.columns, shape.groups * shape.inner, "input columns");
    let mut output = HostTensor::zeros(input.rows, shape.groups * shape.outputs);
    if let Some(bias) = bias {
        assert_eq!(bias.len(), output.columns, "bias length");
    }
    let (lines, scales) = match tiles {
        Tiles::Bf16(lines) => (Lines::Bf16(lines), None),
        Tiles::F32(lines) => (Lines::F32(lines), None),
        Tiles::Scaled { lines, scales } => (Lines::Bf16(lines), Some(scales.as_slice())),
    };
    let target = &mut output;
    match lines {
        Lines::Bf16(lines) => {
            let work = Project { shape, lines, scales, input, bias, output: target };
            launch(instructions, work);
        }
        Lines::F32(lines) => {
            let work = Project { shape, lines, scales, input, bias, output: target };
            launch(instructions, work);
        }
    }
    output
}

enum Lines<'a> {
    Bf16(&'a [PairBf16]),
    F32(&'a [PairF32]),
}

struct Project<'a, P> {
    shape: PackedShape,
    lines: &'a [P],
    scales: Option<&'a [ScaleLine]>,
    input: &'a HostTensor,
    bias: Option<&'a [f32]>,
    output: &'a mut HostTensor,
}

/// Outputs `tile · 16 ..` of `tile_count` tiles of a group, for `row_count` rows from `row` on.
#[derive(Clone, Copy)]
struct Block {
    group: usize,
    tile: usize,
    tile_count: usize,
    row: usize,
    row_count: usize,
}

impl<P: Pair> Kernel for Project<'_, P> {
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let rows = self.input.rows;
        let tiles_max = if rows == 1 { L::TILES_ONE_ROW } else { L::TILES_MANY_ROWS };
        for group in 0..self.shape.groups {
            let mut tile = 0;
            while tile < self.shape.tiles() {
                let tile_count = match self.shape.tiles() - tile {
                    left if left >= tiles_max => tiles_max,
                    _ => 1,
                };
                let mut row = 0;
                while row < rows {
                    let row_count = L::ROWS_MAX.min(rows - row);
                    self.any_block::<L>(Block { group, tile, tile_count, row, row_count });
                    row += row_count;
                }
                tile += tile_count;
            }
        }
    }
}

impl<P: Pair> Project<'_, P> {
    #[inline(always)]
    fn any_block<L: Lanes>(&mut self, block: Block) {
        match (block.row_count, block.tile_count) {
            (1, 4) => self.block::<L, 1, 4>(block),
            (1, 2) => self.block::<L, 1, 2>(block),
            (1, _) => self.block::<L, 1, 1>(block),
            (2, 2) => self.block::<L, 2, 2>(block),
            (2, _) => self.block::<L, 2, 1>(block),
            (3, 2) => self.block::<L, 3, 2>(block),
            (3, _) => self.block::<L, 3, 1>(block),
            (4, 2) => self.block::<L, 4, 2>(block),
            (4, _) => self.block::<L, 4, 1>(block),
            (5, 2) => self.block::<L, 5, 2>(block),
            (5, _) => self.block::<L, 5, 1>(block),
            (_, 2) => self.block::<L, 6, 2>(block),
            (_, _) => self.block::<L, 6, 1>(block),
        }
    }

    #[inline(always)]
    fn block<L: Lanes, const R: usize, const C: usize>(&mut self, block: Block) {
        assert!(block.row_count == R && block.tile_count == C, "block shape");
        let PackedShape { inner, .. } = self.shape;
        let (pairs, blocks) = (self.shape.pairs(), self.shape.blocks());
        let first_tile = block.group * self.shape.tiles() + block.tile;
        let tiles: [&[P]; C] =
            std::array::from_fn(|c| &self.lines[(first_tile + c) * pairs..][..pairs]);
        let inputs: [&[f32]; R] =
            std::array::from_fn(|r| &self.input.row(block.row + r)[block.group * inner..][..inner]);
        let sums = match self.scales {
            None => accumulate::<L, P, R, C>(inputs, tiles),
            Some(scales) => {
                let scales =
                    std::array::from_fn(|c| &scales[(first_tile + c) * blocks..][..blocks]);
                accumulate_scaled::<L, P, R, C>(self.shape, inputs, tiles, scales)
            }
        };
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                self.write(block, (r, c), sum);
            }
        }
    }

    #[inline(always)]
    fn write<L: Lanes>(&mut self, block: Block, (r, c): (usize, usize), sum: L) {
        let outputs = self.shape.outputs;
        let first = (block.tile + c) * LANES;
        let range =
            block.group * outputs + first..block.group * outputs + outputs.min(first + LANES);
        let mut values = [0.0; LANES];
        sum.store(&mut values);
        let target = &mut self.output.row_mut(block.row + r)[range.clone()];
        match self.bias {
            Some(bias) => {
                for ((target, value), bias) in target.iter_mut().zip(values).zip(&bias[range]) {
                    *target = value + bias;
                }
            }
            None => target.copy_from_slice(&values[..target.len()]),
        }
    }
}

/// As [`accumulate`], block by block of inputs, each times its scale.
#[inline(always)]
fn accumulate_scaled<L: Lanes, P: Pair, const R: usize, const C: usize>(
    shape: PackedShape,
    inputs: [&[f32]; R],
    tiles: [&[P]; C],
    scales: [&[ScaleLine]; C],
) -> [[L; C]; R] {
    let mut totals = [[L::splat(0.0); C]; R];
    let mut index = 0;
    while index < shape.blocks() {
        let first = index * shape.block;
        let inputs = inputs.map(|input| &input[first..shape.inner.min(first + shape.block)]);
        let first = index * shape.block_pairs();
        let lines = tiles.map(|tile| &tile[first..tile.len().min(first + shape.block_pairs())]);
        let sums = accumulate::<L, P, R, C>(inputs, lines);
        for c in 0..C {
            let scale = L::load(&scales[c][index].0);
            for r in 0..R {
                totals[r][c] = sums[r][c].mul_add(scale, totals[r][c]);
            }
        }
        index += 1;
    }
    totals
}

/// R rows × C tiles; every `tiles[c]` has one line for each pair of inputs, the last perhaps half.
#[inline(always)]
fn accumulate<L: Lanes, P: Pair, const R: usize, const C: usize>(
    inputs: [&[f32]; R],
    tiles: [&[P]; C],
) -> [[L; C]; R] {
    let zero = L::splat(0.0);
    let mut even = [[zero; C]; R];
    let mut odd = [[zero; C]; R];
    let whole = inputs.map(|input| input.as_chunks::<2>().0);
    let pairs = whole[0].len();
    assert!(whole.iter().all(|input| input.len() == pairs), "rows of one length");
    assert!(tiles.iter().all(|tile| tile.len() >= pairs), "a line for each pair");
    for pair in 0..pairs {
        // Loops, here and elsewhere, because a closure would be compiled without the instructions.
        let mut weights = [(zero, zero); C];
        for c in 0..C {
            // SAFETY: `pair` is below the length of every tile and of every row, as asserted above.
            weights[c] = unsafe { tiles[c].get_unchecked(pair) }.widen();
        }
        for r in 0..R {
            // SAFETY: as above.
            let [x, y] = *unsafe { whole[r].get_unchecked(pair) };
            let (x, y) = (L::splat(x), L::splat(y));
            for c in 0..C {
                even[r][c] = x.mul_add(weights[c].0, even[r][c]);
                odd[r][c] = y.mul_add(weights[c].1, odd[r][c]);
            }
        }
    }
    for c in 0..C {
        let Some(line) = tiles[c].get(pairs) else { continue };
        let weight: L = line.widen().0;
        for r in 0..R {
            if let Some(&x) = inputs[r].last() {
                even[r][c] = L::splat(x).mul_add(weight, even[r][c]);
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            even[r][c] = even[r][c].add(odd[r][c]);
        }
    }
    even
}
