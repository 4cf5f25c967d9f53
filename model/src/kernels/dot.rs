//! Sums of products of bf16 weights and bf16 activations: routed experts, and the head.
//!
//! An output element is one sum over pairs of inputs in ascending order, as [`Lanes::dot_pair`] adds; scaled weights
//! have such a sum for each block of inputs, and the blocks' sums times their scales are added in ascending order.
//! Projections before a gate keep f32 activations: rounded ones would choose other experts.

use super::disjoint::Disjoint;
use super::lanes::{LANES, Lanes};
use super::launch::{Kernel, launch};
use super::pack::{PackedShape, PairBf16, ScaleLine};
use super::rows::{Context, narrow};
use super::split::{Cut, in_parallel};
use crate::reference::HostTensor;

/// A packed projection of bf16 values, perhaps with scales; one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct DotMatrix<'a> {
    pub shape: PackedShape,
    pub lines: &'a [PairBf16],
    pub scales: Option<&'a [ScaleLine]>,
}

impl<'a> DotMatrix<'a> {
    /// One tile's lines and scales.
    #[inline(always)]
    pub(super) fn tile(&self, tile: usize) -> Tile<'a> {
        let (pairs, blocks) = (self.shape.pairs(), self.shape.blocks());
        Tile {
            lines: &self.lines[tile * pairs..][..pairs],
            scales: self.scales.map(|scales| &scales[tile * blocks..][..blocks]),
        }
    }

    /// Bytes of one tile.
    pub(super) fn tile_bytes(&self) -> usize {
        self.shape.pairs() * size_of::<PairBf16>()
    }
}

/// Sixteen outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    lines: &'a [PairBf16],
    /// One line for each block of inputs.
    scales: Option<&'a [ScaleLine]>,
}

/// bf16 rows in pairs of inputs; an odd last input stands beside a zero.
#[derive(Debug)]
pub(super) struct PairRows {
    pairs: usize,
    words: Vec<[u16; 2]>,
}

impl PairRows {
    /// Zeros.
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        let pairs = columns.div_ceil(2);
        Self { pairs, words: vec![[0; 2]; rows * pairs] }
    }

    /// Rows of `columns` little-endian bf16 values.
    pub(super) fn from_bytes(columns: usize, payload: &[u8]) -> Self {
        let row_bytes = (columns * 2).max(1);
        let mut output = Self::zeros(payload.len() / row_bytes, columns);
        let rows = output.words.chunks_mut(output.pairs.max(1));
        for (words, row) in rows.zip(payload.chunks(row_bytes)) {
            for (value, bytes) in words.as_flattened_mut().iter_mut().zip(row.as_chunks().0) {
                *value = u16::from_le_bytes(*bytes);
            }
        }
        output
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[[u16; 2]] {
        &self.words[row * self.pairs..][..self.pairs]
    }

    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    pub(super) fn words_mut(&mut self) -> &mut [[u16; 2]] {
        &mut self.words
    }
}

/// Activations, rounded.
fn rounded((instructions, parallel, _): Context<'_>, input: &HostTensor) -> PairRows {
    let mut output = PairRows::zeros(input.rows, input.columns);
    let pairs = output.pairs;
    let target = Disjoint::new(&mut output.words);
    in_parallel(parallel, Cut::rows(input.rows, input.columns), &|rows| {
        for row in rows {
            // SAFETY: each row is written by the one part that has it.
            let target = unsafe { target.slice(row * pairs..(row + 1) * pairs) };
            let target = target.as_flattened_mut();
            launch(instructions, Round { source: input.row(row), target });
        }
    });
    output
}

struct Round<'a> {
    source: &'a [f32],
    target: &'a mut [u16],
}

impl Kernel for Round<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for (target, value) in self.target.iter_mut().zip(self.source) {
            *target = narrow(*value);
        }
    }
}

/// Runs `$function::<$lanes, rows, …>` with the row count as a constant; there are at most six.
macro_rules! with_rows {
    ($count:expr, $object:ident . $function:ident :: <$lanes:ident, R $(, $more:tt)*> $arguments:tt) => {
        match $count {
            1 => $object.$function::<$lanes, 1 $(, $more)*> $arguments,
            2 => $object.$function::<$lanes, 2 $(, $more)*> $arguments,
            3 => $object.$function::<$lanes, 3 $(, $more)*> $arguments,
            4 => $object.$function::<$lanes, 4 $(, $more)*> $arguments,
            5 => $object.$function::<$lanes, 5 $(, $more)*> $arguments,
            _ => $object.$function::<$lanes, 6 $(, $more)*> $arguments,
        }
    };
}
pub(super) use with_rows;

/// Rows of equal blocks, each as large as registers allow: `(first, count)` of each.
#[inline(always)]
pub(super) fn row_blocks<L: Lanes>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = rows.div_ceil(L::ROWS_MAX).max(1);
    let size = rows.div_ceil(blocks).max(1);
    (0..rows).step_by(size).map(move |first| (first, size.min(rows - first)))
}

/// R rows × C tiles.
#[inline(always)]
pub(super) fn dot<L: Lanes, const R: usize, const C: usize>(
    shape: PackedShape,
    inputs: [&[[u16; 2]]; R],
    tiles: [Tile<'_>; C],
) -> [[L; C]; R] {
    let mut lines = [tiles[0].lines; C];
    for c in 0..C {
        lines[c] = tiles[c].lines;
    }
    if tiles[0].scales.is_none() {
        return accumulate::<L, R, C>(inputs, lines);
    }
    let mut totals = [[L::splat(0.0); C]; R];
    let pairs = shape.pairs();
    for block in 0..shape.blocks() {
        let first = block * shape.block_pairs();
        let end = pairs.min(first + shape.block_pairs());
        let mut some_inputs = inputs;
        for r in 0..R {
            some_inputs[r] = &inputs[r][first..end];
        }
        let mut some_lines = lines;
        for c in 0..C {
            some_lines[c] = &lines[c][first..end];
        }
        let sums = accumulate::<L, R, C>(some_inputs, some_lines);
        for c in 0..C {
            let Some(scales) = tiles[c].scales else { continue };
            let scale = L::load(&scales[block].0);
            for r in 0..R {
                totals[r][c] = sums[r][c].mul_add(scale, totals[r][c]);
            }
        }
    }
    totals
}

#[inline(always)]
fn accumulate<L: Lanes, const R: usize, const C: usize>(
    inputs: [&[[u16; 2]]; R],
    lines: [&[PairBf16]; C],
) -> [[L; C]; R] {
    let mut sums = [[L::splat(0.0); C]; R];
    let pairs = lines[0].len();
    assert!(inputs.iter().all(|input| input.len() == pairs), "a pair for each line");
    assert!(lines.iter().all(|lines| lines.len() == pairs), "tiles of one length");
    for pair in 0..pairs {
        // SAFETY: `pair` is below the length of every tile and of every row, as asserted above.
        let mut some = [L::line(unsafe { lines[0].get_unchecked(pair) }.words()); C];
        for c in 1..C {
            // SAFETY: as above.
            some[c] = L::line(unsafe { lines[c].get_unchecked(pair) }.words());
        }
        for r in 0..R {
            // SAFETY: as above.
            let [low, high] = *unsafe { inputs[r].get_unchecked(pair) };
            let word = u32::from(low) | u32::from(high) << 16;
            for c in 0..C {
                sums[r][c] = sums[r][c].dot_pair(some[c], word);
            }
        }
    }
    sums
}

/// `input` `[rows, inner]`, rounded to bf16, → `[rows, outputs]`; one group.
pub(super) fn project_rounded(
    context: Context<'_>,
    input: &HostTensor,
    matrix: DotMatrix<'_>,
    bias: Option<&[f32]>,
) -> HostTensor {
    let shape = matrix.shape;
    let (instructions, parallel, buffers) = context;
    let mut output = HostTensor::reused(buffers, input.rows, shape.outputs);
    let (rows, columns) = (output.rows, output.columns);
    let inputs = rounded(context, input);
    let target = Disjoint::new(&mut output.values);
    let cut = Cut::new(shape.tiles(), matrix.tile_bytes(), rows);

    in_parallel(parallel, cut, &|tiles| {
        let inputs = &inputs;
        let work = DotTiles { matrix, inputs, bias, rows, columns, tiles, target: &target };
        launch(instructions, work);
    });
    output
}

struct DotTiles<'a> {
    matrix: DotMatrix<'a>,
    inputs: &'a PairRows,
    bias: Option<&'a [f32]>,
    rows: usize,
    columns: usize,
    tiles: std::ops::Range<usize>,
    target: &'a Disjoint<'a, f32>,
}

impl Kernel for DotTiles<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut tile = self.tiles.start;
        while tile < self.tiles.end {
            let wide = self.tiles.end - tile >= 4;
            for (row, count) in row_blocks::<L>(self.rows) {
                if wide {
                    with_rows!(count, self.block::<L, R, 4>(row, tile));
                } else {
                    with_rows!(count, self.block::<L, R, 1>(row, tile));
                }
            }
            tile += if wide { 4 } else { 1 };
        }
    }
}

impl DotTiles<'_> {
    #[inline(always)]
    fn block<L: Lanes, const R: usize, const C: usize>(&self, row: usize, tile: usize) {
        let mut inputs = [self.inputs.row(row); R];
        for (r, input) in inputs.iter_mut().enumerate() {
            *input = self.inputs.row(row + r);
        }
        let mut tiles = [self.matrix.tile(tile); C];
        for (c, some) in tiles.iter_mut().enumerate() {
            *some = self.matrix.tile(tile + c);
        }
        let sums = dot::<L, R, C>(self.matrix.shape, inputs, tiles);
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let first = (tile + c) * LANES;
                let count = LANES.min(self.columns - first);
                let start = (row + r) * self.columns + first;
                // SAFETY: each tile of a row is written by the one part that has the tile.
                let target = unsafe { self.target.slice(start..start + count) };
                let mut values = [0.0; LANES];
                sum.store(&mut values);
                for (index, target) in target.iter_mut().enumerate() {
                    let bias = self.bias.map_or(0.0, |bias| bias[first + index]);
                    *target = values[index] + bias;
                }
            }
        }
    }
}
