//! `x · Wᵀ + bias` over packed weights.
//!
//! An output element is (Σ over even inputs) + (Σ over odd inputs) + bias, each sum in ascending order; scaled
//! weights have such a sum for each block of inputs, and the blocks' sums times their scales are added in ascending
//! order. Which rows and tiles are computed side by side never changes that.

use super::disjoint::Disjoint;
use super::dot::{DotMatrix, project_rounded, row_blocks};
use super::lanes::{LANES, Lanes};
use super::launch::{Kernel, launch};
use super::pack::{PackedShape, Pair, ScaleLine, Tiles};
use super::rows::Context;
use super::split::{Cut, in_parallel};
use crate::reference::HostTensor;
use std::ops::Range;

/// `input` `[rows, groups · inner]` → `[rows, groups · outputs]`.
pub(super) fn project(
    (instructions, parallel, buffers): Context<'_>,
    input: &HostTensor,
    (shape, tiles): (PackedShape, &Tiles),
    bias: Option<&[f32]>,
) -> HostTensor {
    assert_eq!(input.columns, shape.groups * shape.inner, "input columns");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), shape.groups * shape.outputs, "bias length");
    }
    let context = (instructions, parallel, buffers);
    match tiles {
        Tiles::F32(lines) => cut(context, Weights { shape, lines, scales: None }, input, bias),
        Tiles::Rounded(lines) if instructions.round_activations() => {
            project_rounded(context, input, DotMatrix { shape, lines, scales: None }, bias)
        }
        Tiles::Bf16(lines) | Tiles::Rounded(lines) => {
            cut(context, Weights { shape, lines, scales: None }, input, bias)
        }
        Tiles::Scaled { lines, scales } => {
            cut(context, Weights { shape, lines, scales: Some(scales) }, input, bias)
        }
    }
}

/// Cuts a projection over the tiles of all groups.
fn cut<P: Pair>(
    (instructions, parallel, buffers): Context<'_>,
    weights: Weights<'_, P>,
    input: &HostTensor,
    bias: Option<&[f32]>,
) -> HostTensor {
    let shape = weights.shape;
    let mut output = HostTensor::reused(buffers, input.rows, shape.groups * shape.outputs);
    if shape.inner == 0 {
        output.values.fill(0.0);
    }
    let columns = output.columns;
    let target = Disjoint::new(&mut output.values);
    let tile_bytes = shape.pairs() * size_of::<P>();
    let tiles = Cut::new(shape.groups * shape.tiles(), tile_bytes, input.rows);
    in_parallel(parallel, tiles, &|tiles| {
        launch(instructions, Project { weights, input, bias, columns, tiles, target: &target });
    });
    output
}

/// A packed matrix.
struct Weights<'a, P> {
    shape: PackedShape,
    lines: &'a [P],
    scales: Option<&'a [ScaleLine]>,
}

impl<P> Clone for Weights<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Weights<'_, P> {}

struct Project<'a, P> {
    weights: Weights<'a, P>,
    input: &'a HostTensor,
    bias: Option<&'a [f32]>,
    /// Of the output.
    columns: usize,
    /// Tiles of all groups, counted through.
    tiles: Range<usize>,
    target: &'a Disjoint<'a, f32>,
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
    fn run<L: Lanes>(self) {
        let rows = self.input.rows;
        let tiles_max = if rows == 1 { L::TILES_ONE_ROW } else { L::TILES_MANY_ROWS };
        let in_group = self.weights.shape.tiles();
        let mut next = self.tiles.start;
        while next < self.tiles.end {
            let (group, tile) = (next / in_group, next % in_group);
            let tile_count = match (self.tiles.end - next).min(in_group - tile) {
                left if left >= tiles_max => tiles_max,
                _ => 1,
            };
            for (row, row_count) in row_blocks::<L>(rows) {
                self.any_block::<L>(Block { group, tile, tile_count, row, row_count });
            }
            next += tile_count;
        }
    }
}

impl<P: Pair> Project<'_, P> {
    #[inline(always)]
    fn any_block<L: Lanes>(&self, block: Block) {
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
    fn block<L: Lanes, const R: usize, const C: usize>(&self, block: Block) {
        assert!(block.row_count == R && block.tile_count == C, "block shape");
        let Weights { shape, lines, scales } = self.weights;
        let PackedShape { inner, .. } = shape;
        let (pairs, blocks) = (shape.pairs(), shape.blocks());
        let first_tile = block.group * shape.tiles() + block.tile;
        let tiles: [&[P]; C] = std::array::from_fn(|c| &lines[(first_tile + c) * pairs..][..pairs]);
        let inputs: [&[f32]; R] =
            std::array::from_fn(|r| &self.input.row(block.row + r)[block.group * inner..][..inner]);
        let sums = match scales {
            None => accumulate::<L, P, R, C>(inputs, tiles),
            Some(scales) => {
                let scales =
                    std::array::from_fn(|c| &scales[(first_tile + c) * blocks..][..blocks]);
                accumulate_scaled::<L, P, R, C>(shape, inputs, tiles, scales)
            }
        };
        for (r, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                self.write(block, (r, c), sum);
            }
        }
    }

    #[inline(always)]
    fn write<L: Lanes>(&self, block: Block, (r, c): (usize, usize), sum: L) {
        let outputs = self.weights.shape.outputs;
        let first = (block.tile + c) * LANES;
        let range =
            block.group * outputs + first..block.group * outputs + outputs.min(first + LANES);
        let mut values = [0.0; LANES];
        sum.store(&mut values);
        let start = (block.row + r) * self.columns;
        // SAFETY: each tile of a row is written by the one part that has the tile.
        let target = unsafe { self.target.slice(start + range.start..start + range.end) };
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
