//! Attention over a paged cache, with an online softmax.
//!
//! A row walks its context in tiles of [`TILE_POSITIONS`], and in splits of [`SPLIT_POSITIONS`] whose results are
//! joined in order, both counted from position 0. So it comes out the same in prefill and in decode, alone and in a
//! batch, whatever the cache's block size is and whoever computes which split.

mod tile;

use super::cache::{CachePart, HeadWidth};
use super::disjoint::Disjoint;
use super::lanes::{LANES, Lanes};
use super::launch::{Kernel, launch};
use super::rows::Context;
use super::split::{Cut, in_parallel};
use crate::backend::RowLayout;
use crate::reference::HostTensor;
use std::ops::Range;
use tile::{Tile, add_values, correct, larger, scalar_exp, score_each, score_four, soften};

/// Positions scored before the sums are touched: 32 × 576 values of R1's cache are 72 KiB, which stays in the
/// second-level cache while all heads use them. Changing it changes roundings.
const TILE_POSITIONS: usize = 32;
const TILE_VECTORS: usize = TILE_POSITIONS / LANES;
/// Positions of one split, a whole number of tiles: long enough that joining costs nothing, short enough that a long
/// context of one row keeps all threads busy. Changing it changes roundings.
const SPLIT_POSITIONS: usize = 1024;
/// Rows of a sequence that walk the context together, so that a tile is read from memory once for all of them.
const ROWS_TOGETHER: usize = 8;
/// Heads of one part: with [`ROWS_TOGETHER`] rows of 512 values their sums take 256 KiB of the second-level cache.
const HEADS_TOGETHER: usize = 16;

/// What one layer's attention works on. Head h of the query belongs to key/value head `h / group`.
pub(super) struct Attention<'a> {
    pub layout: &'a RowLayout,
    pub scale: f32,
    pub keys: Heads<'a>,
    /// MLA's values are the first columns of its keys.
    pub values: Heads<'a>,
    /// Column pieces that make a query, in order: head h is at `h · width` of each.
    pub query: &'a [QueryPiece<'a>],
    pub heads: usize,
    pub group: usize,
}

/// Heads in a cache part.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub part: &'a CachePart,
    pub width: HeadWidth,
}

impl<'a> Heads<'a> {
    #[inline(always)]
    fn row(&self, slot: usize, head: usize) -> &'a [[f32; LANES]] {
        let vectors = self.width.vectors;
        self.part.row(slot, head * vectors..(head + 1) * vectors)
    }
}

/// Columns of the query.
#[derive(Clone, Copy)]
pub(super) struct QueryPiece<'a> {
    pub tensor: &'a HostTensor,
    pub width: usize,
}

/// Rows of one sequence and heads of one key/value head.
#[derive(Clone, Debug)]
struct Part {
    rows: Range<usize>,
    heads: Range<usize>,
    /// Splits of the longest row.
    splits: usize,
}

/// Runs all heads of all rows: `[rows, heads · value width]`.
pub(super) fn attend(
    (instructions, parallel, buffers): Context<'_>,
    work: &Attention<'_>,
) -> HostTensor {
    let columns = work.heads * work.values.width.width;
    let mut output = HostTensor::reused(buffers, work.layout.rows.len(), columns);
    let target = Disjoint::new(&mut output.values);
    let parts = work.parts();
    if parts.len() < 2 * parallel.width() && parts.iter().any(|part| part.splits > 1) {
        for part in &parts {
            attend_split_by_split((instructions, parallel, buffers), work, part, &target);
        }
    } else {
        in_parallel(parallel, work.cut(parts.len()), &|range| {
            for part in &parts[range] {
                let whole = Whole { work, part, target: &target };
                launch(instructions, whole);
            }
        });
    }
    output
}

/// One part's splits at the same time, joined afterwards.
fn attend_split_by_split(
    (instructions, parallel, _): Context<'_>,
    work: &Attention<'_>,
    part: &Part,
    target: &Disjoint<'_, f32>,
) {
    let mut splits: Vec<State> = (0..part.splits).map(|_| State::new(work, part)).collect();
    let states = Disjoint::new(&mut splits);
    in_parallel(parallel, Cut::large(part.splits, 1), &|range| {
        for split in range {
            // SAFETY: each split has one state.
            let state = unsafe { &mut states.slice(split..split + 1)[0] };
            launch(instructions, Split { work, part, split, state });
        }
    });
    launch(instructions, Join { work, part, splits: &splits, target });
}

impl Attention<'_> {
    fn parts(&self) -> Vec<Part> {
        let rows = &self.layout.rows;
        let mut parts = Vec::new();
        let mut first = 0;
        while first < rows.len() {
            let segment = rows[first].segment;
            let together = rows[first..].iter().take(ROWS_TOGETHER);
            let count = together.take_while(|row| row.segment == segment).count();
            let end = first + count;
            let longest = rows[first..end].iter().map(|row| row.position + 1).max().unwrap_or(0);
            for kv_head in 0..self.heads / self.group.max(1) {
                let heads = kv_head * self.group..(kv_head + 1) * self.group;
                for head in heads.clone().step_by(HEADS_TOGETHER) {
                    parts.push(Part {
                        rows: first..end,
                        heads: head..heads.end.min(head + HEADS_TOGETHER),
                        splits: longest.div_ceil(SPLIT_POSITIONS),
                    });
                }
            }
            first = end;
        }
        parts
    }

    /// Parts that are worth a thread's waking: by multiply-adds of all heads.
    fn cut(&self, parts: usize) -> Cut {
        let positions: usize = self.layout.rows.iter().map(|row| row.position + 1).sum();
        Cut::work(parts, positions * self.heads * (self.keys.width.width + self.values.width.width))
    }
}

/// Running softmax of some rows and heads.
struct State {
    heads: usize,
    /// `[rows, heads, value vectors]`
    sums: Vec<[f32; LANES]>,
    /// `[rows, heads]`
    max: Vec<f32>,
    total: Vec<f32>,
    vectors: usize,
}

impl State {
    fn new(work: &Attention<'_>, part: &Part) -> Self {
        let (vectors, count) = (work.values.width.vectors, part.rows.len() * part.heads.len());
        Self {
            heads: part.heads.len(),
            sums: vec![[0.0; LANES]; count * vectors],
            max: vec![f32::NEG_INFINITY; count],
            total: vec![0.0; count],
            vectors,
        }
    }

    fn clear(&mut self) {
        self.sums.fill([0.0; LANES]);
        self.max.fill(f32::NEG_INFINITY);
        self.total.fill(0.0);
    }

    /// Adds what was found in later positions.
    #[inline(always)]
    fn join<L: Lanes>(&mut self, later: &Self) {
        for index in 0..self.max.len() {
            if later.total[index] == 0.0 {
                continue;
            }
            let max = larger(self.max[index], later.max[index]);
            let (old, new) =
                (scalar_exp::<L>(self.max[index] - max), scalar_exp::<L>(later.max[index] - max));
            self.max[index] = max;
            self.total[index] = self.total[index] * old + later.total[index] * new;
            let range = index * self.vectors..(index + 1) * self.vectors;
            for (sum, more) in self.sums[range.clone()].iter_mut().zip(&later.sums[range]) {
                let more = L::load(more).mul(L::splat(new));
                L::load(sum).mul_add(L::splat(old), more).store(sum);
            }
        }
    }
}

/// A part from its first split to its output.
struct Whole<'a> {
    work: &'a Attention<'a>,
    part: &'a Part,
    target: &'a Disjoint<'a, f32>,
}

impl Kernel for Whole<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { work, part, target } = self;
        let mut scratch = Scratch::new(work, part);
        let mut all = State::new(work, part);
        scratch.walk::<L>(work, part, 0, &mut all);
        if part.splits > 1 {
            let mut later = State::new(work, part);
            for split in 1..part.splits {
                later.clear();
                scratch.walk::<L>(work, part, split, &mut later);
                all.join::<L>(&later);
            }
        }
        finish(work, part, &all, target);
    }
}

/// One split of a part.
struct Split<'a> {
    work: &'a Attention<'a>,
    part: &'a Part,
    split: usize,
    state: &'a mut State,
}

impl Kernel for Split<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        Scratch::new(self.work, self.part).walk::<L>(self.work, self.part, self.split, self.state);
    }
}

/// All splits of a part.
struct Join<'a> {
    work: &'a Attention<'a>,
    part: &'a Part,
    splits: &'a [State],
    target: &'a Disjoint<'a, f32>,
}

impl Kernel for Join<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut all = State::new(self.work, self.part);
        all.sums.copy_from_slice(&self.splits[0].sums);
        all.max.copy_from_slice(&self.splits[0].max);
        all.total.copy_from_slice(&self.splits[0].total);
        for later in &self.splits[1..] {
            all.join::<L>(later);
        }
        finish(self.work, self.part, &all, self.target);
    }
}

#[inline(always)]
fn finish(work: &Attention<'_>, part: &Part, state: &State, target: &Disjoint<'_, f32>) {
    let width = work.values.width.width;
    for (r, row) in part.rows.clone().enumerate() {
        for (h, head) in part.heads.clone().enumerate() {
            let index = r * state.heads + h;
            let start = (row * work.heads + head) * width;
            // SAFETY: each head of a row is written by the one part that has it.
            let target = unsafe { target.slice(start..start + width) };
            let sums = &state.sums[index * state.vectors..][..state.vectors];
            let total = state.total[index];
            for (out, sum) in target.iter_mut().zip(sums.as_flattened()) {
                *out = sum / total;
            }
        }
    }
}

/// Buffers of one part.
struct Scratch {
    /// `[rows, heads, key vectors]`, scaled.
    query: Vec<[f32; LANES]>,
    key_vectors: usize,
    /// `[heads, tile positions]`
    weights: Vec<[[f32; LANES]; TILE_VECTORS]>,
}

impl Scratch {
    #[inline(always)]
    fn new(work: &Attention<'_>, part: &Part) -> Self {
        let (heads, key_vectors) = (part.heads.len(), work.keys.width.vectors);
        let mut query = vec![[0.0; LANES]; part.rows.len() * heads * key_vectors];
        for (r, row) in part.rows.clone().enumerate() {
            for (h, head) in part.heads.clone().enumerate() {
                let target =
                    query[(r * heads + h) * key_vectors..][..key_vectors].as_flattened_mut();
                let mut at = 0;
                for piece in work.query {
                    let source = &piece.tensor.row(row)[head * piece.width..][..piece.width];
                    target[at..at + piece.width].copy_from_slice(source);
                    at += piece.width;
                }
            }
        }
        Self { query, key_vectors, weights: vec![[[0.0; LANES]; TILE_VECTORS]; heads] }
    }

    /// Adds one split to a state, tile by tile.
    #[inline(always)]
    fn walk<L: Lanes>(
        &mut self,
        work: &Attention<'_>,
        part: &Part,
        split: usize,
        state: &mut State,
    ) {
        let kv_head = part.heads.start / work.group.max(1);
        let Some(first_row) = work.layout.rows.get(part.rows.start) else { return };
        let end = work.layout.rows[part.rows.clone()].iter().map(|row| row.position + 1).max();
        let end = end.unwrap_or(0).min((split + 1) * SPLIT_POSITIONS);
        let mut first = split * SPLIT_POSITIONS;
        while first < end {
            let tile =
                Tile::new(work, kv_head, first_row.segment, first..end.min(first + TILE_POSITIONS));
            for (r, row) in work.layout.rows[part.rows.clone()].iter().enumerate() {
                // A row sees itself and what is before it.
                let count = (row.position + 1).saturating_sub(first).min(tile.count);
                if count > 0 {
                    self.tile::<L>(&tile, (r, count), work.scale, state);
                }
            }
            first += TILE_POSITIONS;
        }
    }

    /// Adds the first `count` positions of a tile to row `r`'s state.
    #[inline(always)]
    fn tile<L: Lanes>(
        &mut self,
        tile: &Tile<'_>,
        (r, count): (usize, usize),
        scale: f32,
        state: &mut State,
    ) {
        let heads = state.heads;
        let mut head = 0;
        while head < heads {
            let some = L::SCORED.min(heads - head);
            let query = &self.query[(r * heads + head) * self.key_vectors..];
            let weights = &mut self.weights[head..head + some];
            match some {
                4 if L::SCORED == 4 => score_four::<L>(query, tile, count, weights),
                _ => score_each::<L>(query, tile, count, weights),
            }
            head += some;
        }
        for head in 0..heads {
            let index = r * heads + head;
            let weights = &mut self.weights[head];
            let correction = soften::<L>(
                weights,
                count,
                scale,
                (&mut state.max[index], &mut state.total[index]),
            );
            let sums = &mut state.sums[index * state.vectors..][..state.vectors];
            correct::<L>(sums, correction);
        }
        let mut head = 0;
        while head < heads {
            let first = (r * heads + head) * state.vectors;
            if L::SCORED == 4 && heads - head >= 4 {
                let sums = &mut state.sums[first..first + 4 * state.vectors];
                add_values::<L, 4>(sums, tile, &self.weights[head..head + 4], count);
                head += 4;
            } else {
                let sums = &mut state.sums[first..first + state.vectors];
                add_values::<L, 1>(sums, tile, &self.weights[head..head + 1], count);
                head += 1;
            }
        }
    }
}
