//! `x · Wᵀ + bias` over packed weights.
//!
//! An output element is (Σ over even inputs) + (Σ over odd inputs) + bias, each sum in ascending order. Which rows
//! and tiles are computed side by side never changes that.

use super::lanes::{LANES, Lanes};
use super::launch::{Instructions, Kernel, launch};
use super::pack::{PackedShape, Pair, Tiles};
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
    let target = &mut output;
    match tiles {
        Tiles::Bf16(lines) => {
            launch(instructions, Project { shape, lines, input, bias, output: target });
        }
        Tiles::F32(lines) => {
            launch(instructions, Project { shape, lines, input, bias, output: target });
        }
    }
    output
}

struct Project<'a, P> {
    shape: PackedShape,
    lines: &'a [P],
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
        let pairs = self.shape.pairs();
        let first_tile = block.group * self.shape.tiles() + block.tile;
        let tiles: [&[P]; C] =
            std::array::from_fn(|c| &self.lines[(first_tile + c) * pairs..][..pairs]);
        let inputs: [&[f32]; R] =
            std::array::from_fn(|r| &self.input.row(block.row + r)[block.group * inner..][..inner]);
        let sums = accumulate::<L, P, R, C>(inputs, tiles);
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
        // SAFETY: `pair` is below the length of every tile and of every row, as asserted above.
        let weights: [(L, L); C] =
            std::array::from_fn(|c| unsafe { tiles[c].get_unchecked(pair) }.widen());
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
