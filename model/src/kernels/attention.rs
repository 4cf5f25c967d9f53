//! Attention of single rows over a paged cache, with an online softmax.
//!
//! A row walks its context in tiles of [`TILE_POSITIONS`] from position 0, whatever the cache's block size is, so
//! it comes out the same in prefill and in decode, alone and in a batch.

use super::lanes::{LANES, Lanes};
use super::launch::{Instructions, Kernel, launch};
use crate::backend::RowLayout;
use crate::reference::HostTensor;

/// Positions gathered at once: 32 × 576 values of R1's cache are 72 KiB, which stays in the second-level
/// cache while all heads use them. Changing it changes roundings.
const TILE_POSITIONS: usize = 32;
/// Positions scored side by side.
const SCORED_TOGETHER: usize = 8;
/// Vectors of the output summed side by side.
const SUMMED_TOGETHER: usize = 4;

/// A cache part `[positions, columns]`.
#[derive(Debug)]
pub(super) struct CachePart {
    pub columns: usize,
    pub values: Vec<f32>,
}

impl CachePart {
    pub(super) fn row(&self, slot: usize) -> &[f32] {
        &self.values[slot * self.columns..][..self.columns]
    }
}

/// One key/value head's share of the work.
pub(super) struct Attend<'a> {
    pub layout: &'a RowLayout,
    pub scale: f32,
    /// Query heads that share the keys.
    pub heads: usize,
    /// Column pieces that make a key, in order, and those that make a value.
    pub key: Vec<Piece<'a>>,
    pub value: Vec<Piece<'a>>,
    /// Pieces of the queries, parallel to those of the key: head h is at `first + h · width`.
    pub query: Vec<QueryPiece<'a>>,
    /// Where head h's output goes: column `first + h · width`.
    pub output: &'a mut HostTensor,
    pub output_first: usize,
}

/// Columns `first .. first + width` of a cache part.
pub(super) struct Piece<'a> {
    pub part: &'a CachePart,
    pub first: usize,
    pub width: usize,
}

/// Columns of the query tensor.
pub(super) struct QueryPiece<'a> {
    pub tensor: &'a HostTensor,
    pub first: usize,
    pub width: usize,
}

/// Runs one key/value head for all rows.
pub(super) fn attend(instructions: Instructions, work: Attend<'_>) {
    launch(instructions, work);
}

/// Buffers of one head group, rows padded to whole vectors with zeros.
struct Scratch {
    /// `[TILE_POSITIONS, key vectors]`
    keys: Padded,
    /// `[TILE_POSITIONS, value vectors]`
    values: Padded,
    /// `[heads, key vectors]`
    query: Padded,
    /// `[heads, value vectors]`
    sums: Padded,
    max: Vec<f32>,
    total: Vec<f32>,
}

/// `[rows, vectors · 16]`
struct Padded {
    vectors: usize,
    data: Vec<[f32; LANES]>,
}

impl Padded {
    fn new(rows: usize, width: usize) -> Self {
        let vectors = width.div_ceil(LANES);
        Self { vectors, data: vec![[0.0; LANES]; rows * vectors] }
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &[[f32; LANES]] {
        &self.data[row * self.vectors..][..self.vectors]
    }

    #[inline(always)]
    fn row_mut(&mut self, row: usize) -> &mut [[f32; LANES]] {
        &mut self.data[row * self.vectors..][..self.vectors]
    }
}

impl Kernel for Attend<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let key_width = self.key.iter().map(|piece| piece.width).sum();
        let value_width = self.value.iter().map(|piece| piece.width).sum();
        let mut scratch = Scratch {
            keys: Padded::new(TILE_POSITIONS, key_width),
            values: Padded::new(TILE_POSITIONS, value_width),
            query: Padded::new(self.heads, key_width),
            sums: Padded::new(self.heads, value_width),
            max: vec![0.0; self.heads],
            total: vec![0.0; self.heads],
        };
        for index in 0..self.layout.rows.len() {
            self.start(&mut scratch, index);
            let row = self.layout.rows[index];
            let mut first = 0;
            while first <= row.position {
                let count = TILE_POSITIONS.min(row.position + 1 - first);
                self.gather_tile(&mut scratch, row.segment, first..first + count);
                for head in 0..self.heads {
                    attend_tile::<L>(&mut scratch, head, count, self.scale);
                }
                first += TILE_POSITIONS;
            }
            self.finish(&scratch, index, value_width);
        }
    }
}

impl Attend<'_> {
    #[inline(always)]
    fn start(&self, scratch: &mut Scratch, index: usize) {
        for head in 0..self.heads {
            let target = scratch.query.row_mut(head).as_flattened_mut();
            let mut at = 0;
            for piece in &self.query {
                let source = &piece.tensor.row(index)[piece.first + head * piece.width..];
                target[at..at + piece.width].copy_from_slice(&source[..piece.width]);
                at += piece.width;
            }
        }
        scratch.sums.data.fill([0.0; LANES]);
        scratch.max.fill(f32::NEG_INFINITY);
        scratch.total.fill(0.0);
    }

    #[inline(always)]
    fn gather_tile(
        &self,
        scratch: &mut Scratch,
        segment: usize,
        positions: std::ops::Range<usize>,
    ) {
        for (t, position) in positions.enumerate() {
            let slot = self.layout.slot(segment, position);
            gather(&self.key, slot, scratch.keys.row_mut(t).as_flattened_mut());
            gather(&self.value, slot, scratch.values.row_mut(t).as_flattened_mut());
        }
    }

    #[inline(always)]
    fn finish(&mut self, scratch: &Scratch, index: usize, value_width: usize) {
        for head in 0..self.heads {
            let first = self.output_first + head * value_width;
            let target = &mut self.output.row_mut(index)[first..first + value_width];
            let total = scratch.total[head];
            for (out, sum) in target.iter_mut().zip(scratch.sums.row(head).as_flattened()) {
                *out = sum / total;
            }
        }
    }
}

#[inline(always)]
fn gather(pieces: &[Piece<'_>], slot: usize, target: &mut [f32]) {
    let mut at = 0;
    for piece in pieces {
        let source = &piece.part.row(slot)[piece.first..piece.first + piece.width];
        target[at..at + piece.width].copy_from_slice(source);
        at += piece.width;
    }
}

/// Adds the first `count` positions of the tile to one head's running softmax.
#[inline(always)]
fn attend_tile<L: Lanes>(scratch: &mut Scratch, head: usize, count: usize, scale: f32) {
    let mut scores = [f32::NEG_INFINITY; TILE_POSITIONS];
    let mut first = 0;
    while first < count {
        // Rows past `count` hold an older tile; their scores are not used.
        let some = score::<L>(scratch.query.row(head), &scratch.keys, first);
        let end = count.min(first + SCORED_TOGETHER);
        for (score, sum) in scores[first..end].iter_mut().zip(some) {
            *score = sum * scale;
        }
        first += SCORED_TOGETHER;
    }
    let old_max = scratch.max[head];
    let max = scores[..count].iter().fold(old_max, |a, &b| if b > a { b } else { a });
    let mut weights = [[0.0; LANES]; TILE_POSITIONS / LANES];
    for (weights, scores) in weights.iter_mut().zip(scores.as_chunks::<LANES>().0) {
        L::load(scores).sub(L::splat(max)).exp().store(weights);
    }
    let weights = &weights.as_flattened()[..count];
    let correction = scalar_exp::<L>(old_max - max);
    let mut total = scratch.total[head] * correction;
    for weight in weights {
        total += weight;
    }
    scratch.total[head] = total;
    scratch.max[head] = max;
    add_values::<L>(scratch.sums.row_mut(head), &scratch.values, weights, correction);
}

#[inline(always)]
fn scalar_exp<L: Lanes>(value: f32) -> f32 {
    let mut values = [0.0; LANES];
    L::splat(value).exp().store(&mut values);
    values[0]
}

/// Dot products of the query with [`SCORED_TOGETHER`] keys.
#[inline(always)]
fn score<L: Lanes>(query: &[[f32; LANES]], keys: &Padded, first: usize) -> [f32; SCORED_TOGETHER] {
    let rows: [&[[f32; LANES]]; SCORED_TOGETHER] =
        std::array::from_fn(|t| &keys.row(first + t)[..query.len()]);
    let mut sums = [L::splat(0.0); SCORED_TOGETHER];
    for (k, query) in query.iter().enumerate() {
        let query = L::load(query);
        for t in 0..SCORED_TOGETHER {
            sums[t] = query.mul_add(L::load(&rows[t][k]), sums[t]);
        }
    }
    let mut scores = [0.0; SCORED_TOGETHER];
    for t in 0..SCORED_TOGETHER {
        scores[t] = sums[t].sum();
    }
    scores
}

/// `sums = sums · correction + Σ weight · value`, positions ascending.
#[inline(always)]
fn add_values<L: Lanes>(
    sums: &mut [[f32; LANES]],
    values: &Padded,
    weights: &[f32],
    correction: f32,
) {
    let mut first = 0;
    while first < sums.len() {
        if first + SUMMED_TOGETHER <= sums.len() {
            add_vectors::<L, SUMMED_TOGETHER>(
                &mut sums[first..],
                (values, first),
                weights,
                correction,
            );
            first += SUMMED_TOGETHER;
        } else {
            add_vectors::<L, 1>(&mut sums[first..], (values, first), weights, correction);
            first += 1;
        }
    }
}

#[inline(always)]
fn add_vectors<L: Lanes, const C: usize>(
    sums: &mut [[f32; LANES]],
    (values, first): (&Padded, usize),
    weights: &[f32],
    correction: f32,
) {
    let correction = L::splat(correction);
    let mut totals = [correction; C];
    for c in 0..C {
        totals[c] = L::load(&sums[c]).mul(correction);
    }
    for (t, &weight) in weights.iter().enumerate() {
        let weight = L::splat(weight);
        let row = &values.row(t)[first..first + C];
        for c in 0..C {
            totals[c] = weight.mul_add(L::load(&row[c]), totals[c]);
        }
    }
    for c in 0..C {
        totals[c].store(&mut sums[c]);
    }
}
