//! Routed experts of one layer, all of a call at once: rows and weights are bf16, sums f32.
//!
//! Two steps: `silu(gate) · up`, rounded to bf16 as the rows are, and `down`. Each is cut over experts and outputs, so
//! that one long expert does not keep the others waiting.

use super::disjoint::Disjoint;
use super::dot::{DotMatrix, PairRows, dot, row_blocks, with_rows};
use super::lanes::{LANES, Lanes};
use super::launch::{Kernel, launch};
use super::rows::{Context, narrow, silu_mul_lanes};
use super::split::{Cut, in_parallel};
use crate::parallel::Parallel;

/// Tiles of one part: four of the gate and four of `up`, or eight of `down`.
const GATE_TILES: usize = 4;
const DOWN_TILES: usize = 8;
/// Parts below which all is done by the caller.
const PARTS_MIN: usize = 4;
/// bf16 words in a tile of outputs.
const TILE_WORDS: usize = LANES / 2;

/// One expert and the rows that it gets.
#[derive(Debug)]
pub(super) struct ExpertWork<'a> {
    pub gate: DotMatrix<'a>,
    pub up: DotMatrix<'a>,
    pub down: DotMatrix<'a>,
    pub rows: &'a [u32],
}

/// A range of one expert's tiles.
#[derive(Clone, Copy, Debug)]
struct Part {
    work: usize,
    /// Output row of the work's first row.
    first_row: usize,
    tile: usize,
    end: usize,
}

/// One output row `[hidden]` for each row of each work, as little-endian bf16.
pub(super) fn run_experts(
    (instructions, parallel, _): Context<'_>,
    works: &[ExpertWork<'_>],
    (hidden, payload): (usize, &[u8]),
) -> Vec<u8> {
    let inputs = PairRows::from_bytes(hidden, payload);
    let rows: usize = works.iter().map(|work| work.rows.len()).sum();
    let width = works.iter().map(|work| work.gate.shape.outputs).max().unwrap_or(0);
    let mut inner = PairRows::zeros(rows, width);
    let pairs = inner.pairs();
    let target = Disjoint::new(inner.words_mut());
    let parts = parts(works, GATE_TILES, |work| work.gate.shape.tiles());
    each(parallel, &parts, &|part| {
        let work = &works[part.work];
        launch(instructions, GateUp { work, part, inputs: &inputs, pairs, target: &target });
    });
    let mut outputs = vec![0; rows * hidden * 2];
    let target = Disjoint::new(&mut outputs);
    let parts = self::parts(works, DOWN_TILES, |work| work.down.shape.tiles());
    each(parallel, &parts, &|part| {
        let work = &works[part.work];
        launch(instructions, Down { work, part, inputs: &inner, hidden, target: &target });
    });
    outputs
}

fn parts(
    works: &[ExpertWork<'_>],
    size: usize,
    tiles: impl Fn(&ExpertWork<'_>) -> usize,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut first_row = 0;
    for (index, work) in works.iter().enumerate() {
        let count = tiles(work);
        for tile in (0..count).step_by(size) {
            parts.push(Part { work: index, first_row, tile, end: count.min(tile + size) });
        }
        first_row += work.rows.len();
    }
    parts
}

fn each(parallel: &dyn Parallel, parts: &[Part], run: &(dyn Fn(Part) + Sync)) {
    let cut = if parts.len() < PARTS_MIN { parts.len().max(1) } else { 1 };
    in_parallel(parallel, Cut::large(parts.len(), cut), &|range| {
        for part in &parts[range] {
            run(*part);
        }
    });
}

struct GateUp<'a> {
    work: &'a ExpertWork<'a>,
    part: Part,
    inputs: &'a PairRows,
    /// Words of a row of the target.
    pairs: usize,
    target: &'a Disjoint<'a, [u16; 2]>,
}

impl Kernel for GateUp<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut tile = self.part.tile;
        while tile < self.part.end {
            let wide = self.part.end - tile >= 2;
            for (row, count) in row_blocks::<L>(self.work.rows.len()) {
                if wide {
                    with_rows!(count, self.block::<L, R, 2, 4>(row, tile));
                } else {
                    with_rows!(count, self.block::<L, R, 1, 2>(row, tile));
                }
            }
            tile += if wide { 2 } else { 1 };
        }
    }
}

impl GateUp<'_> {
    /// C tiles of both matrices; `BOTH` is 2 · C.
    #[inline(always)]
    fn block<L: Lanes, const R: usize, const C: usize, const BOTH: usize>(
        &self,
        row: usize,
        tile: usize,
    ) {
        let mut inputs = [self.inputs.row(0); R];
        for (r, input) in inputs.iter_mut().enumerate() {
            *input = self.inputs.row(self.work.rows[row + r] as usize);
        }
        let mut tiles = [self.work.gate.tile(tile); BOTH];
        for c in 0..C {
            tiles[c] = self.work.gate.tile(tile + c);
            tiles[C + c] = self.work.up.tile(tile + c);
        }
        let sums = dot::<L, R, BOTH>(self.work.gate.shape, inputs, tiles);
        for (r, sums) in sums.iter().enumerate() {
            for c in 0..C {
                let mut values = [0.0; LANES];
                silu_mul_lanes::<L>(sums[c], sums[C + c]).store(&mut values);
                self.write(row + r, tile + c, &values);
            }
        }
    }

    /// Values past the last output are zero: their weights are.
    #[inline(always)]
    fn write(&self, row: usize, tile: usize, values: &[f32; LANES]) {
        let first = tile * TILE_WORDS;
        let count = TILE_WORDS.min(self.pairs - first);
        let start = (self.part.first_row + row) * self.pairs + first;
        // SAFETY: each tile of a row is written by the one part that has the tile.
        let target = unsafe { self.target.slice(start..start + count) };
        for (word, pair) in target.iter_mut().zip(values.as_chunks::<2>().0) {
            *word = [narrow(pair[0]), narrow(pair[1])];
        }
    }
}

struct Down<'a> {
    work: &'a ExpertWork<'a>,
    part: Part,
    inputs: &'a PairRows,
    hidden: usize,
    target: &'a Disjoint<'a, u8>,
}

impl Kernel for Down<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut tile = self.part.tile;
        while tile < self.part.end {
            let wide = self.part.end - tile >= 4;
            for (row, count) in row_blocks::<L>(self.work.rows.len()) {
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

impl Down<'_> {
    #[inline(always)]
    fn block<L: Lanes, const R: usize, const C: usize>(&self, row: usize, tile: usize) {
        let pairs = self.work.down.shape.pairs();
        let first = self.part.first_row + row;
        let mut inputs = [&self.inputs.row(first)[..pairs]; R];
        for (r, input) in inputs.iter_mut().enumerate() {
            *input = &self.inputs.row(first + r)[..pairs];
        }
        let mut tiles = [self.work.down.tile(tile); C];
        for (c, some) in tiles.iter_mut().enumerate() {
            *some = self.work.down.tile(tile + c);
        }
        let sums = dot::<L, R, C>(self.work.down.shape, inputs, tiles);
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let mut values = [0.0; LANES];
                sum.store(&mut values);
                let column = (tile + c) * LANES;
                let count = LANES.min(self.hidden - column);
                let start = ((first + r) * self.hidden + column) * 2;
                // SAFETY: each tile of a row is written by the one part that has the tile.
                let target = unsafe { self.target.slice(start..start + 2 * count) };
                for (bytes, value) in target.as_chunks_mut().0.iter_mut().zip(&values) {
                    *bytes = narrow(*value).to_le_bytes();
                }
            }
        }
    }
}
