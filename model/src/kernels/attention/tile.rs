//! One tile of positions: scores, their softmax, and the values' sums.

use super::super::lanes::{LANES, Lanes};
use super::{Attention, TILE_POSITIONS, TILE_VECTORS};
use std::ops::Range;

/// Vectors of the output summed side by side for each head.
const SUMMED: usize = 4;

/// Rows of the cache. Past `count` the last one is repeated; what comes of that is not used.
pub(super) struct Tile<'a> {
    pub keys: [&'a [[f32; LANES]]; TILE_POSITIONS],
    pub values: [&'a [[f32; LANES]]; TILE_POSITIONS],
    pub count: usize,
}

impl<'a> Tile<'a> {
    #[inline(always)]
    pub fn new(
        work: &Attention<'a>,
        kv_head: usize,
        segment: usize,
        positions: Range<usize>,
    ) -> Self {
        let count = positions.len();
        let mut keys: [&[[f32; LANES]]; TILE_POSITIONS] = [&[]; TILE_POSITIONS];
        let mut values = keys;
        for t in 0..TILE_POSITIONS {
            let slot = work.layout.slot(segment, positions.start + t.min(count - 1));
            keys[t] = work.keys.row(slot, kv_head);
            values[t] = work.values.row(slot, kv_head);
        }
        Self { keys, values, count }
    }
}

/// Four heads × four positions at a time.
#[inline(always)]
pub(super) fn score_four<L: Lanes>(
    query: &[[f32; LANES]],
    tile: &Tile<'_>,
    count: usize,
    scores: &mut [[[f32; LANES]; TILE_VECTORS]],
) {
    let vectors = tile.keys[0].len();
    let mut queries = [&query[..vectors]; 4];
    for h in 0..4 {
        queries[h] = &query[h * vectors..][..vectors];
    }
    let mut first = 0;
    while first < count {
        let mut keys = [&tile.keys[first][..vectors]; 4];
        for (t, key) in keys.iter_mut().enumerate() {
            *key = &tile.keys[first + t][..vectors];
        }
        let mut sums = [L::splat(0.0); LANES];
        for k in 0..vectors {
            let mut key = [L::load(&keys[0][k]); 4];
            for t in 1..4 {
                key[t] = L::load(&keys[t][k]);
            }
            for h in 0..4 {
                let query = L::load(&queries[h][k]);
                for t in 0..4 {
                    sums[4 * h + t] = query.mul_add(key[t], sums[4 * h + t]);
                }
            }
        }
        let mut found = [0.0; LANES];
        L::sums(sums).store(&mut found);
        for h in 0..4 {
            scores[h].as_flattened_mut()[first..first + 4]
                .copy_from_slice(&found[4 * h..4 * h + 4]);
        }
        first += 4;
    }
}

/// Each head with each position.
#[inline(always)]
pub(super) fn score_each<L: Lanes>(
    query: &[[f32; LANES]],
    tile: &Tile<'_>,
    count: usize,
    scores: &mut [[[f32; LANES]; TILE_VECTORS]],
) {
    let vectors = tile.keys[0].len();
    for (h, scores) in scores.iter_mut().enumerate() {
        let query = &query[h * vectors..][..vectors];
        for (t, score) in scores.as_flattened_mut()[..count].iter_mut().enumerate() {
            let key = &tile.keys[t][..vectors];
            let mut sum = L::splat(0.0);
            for k in 0..vectors {
                sum = L::load(&query[k]).mul_add(L::load(&key[k]), sum);
            }
            *score = sum.sum();
        }
    }
}

/// Makes weights of scores, and says by what the older sums shrink.
#[inline(always)]
pub(super) fn soften<L: Lanes>(
    weights: &mut [[f32; LANES]; TILE_VECTORS],
    count: usize,
    scale: f32,
    (max, total): (&mut f32, &mut f32),
) -> f32 {
    let scores = weights.as_flattened_mut();
    let mut new_max = *max;
    for score in &mut scores[..count] {
        *score *= scale;
        new_max = larger(new_max, *score);
    }
    let correction = scalar_exp::<L>(*max - new_max);
    for vector in weights.iter_mut() {
        L::load(vector).sub(L::splat(new_max)).exp().store(vector);
    }
    weights.as_flattened_mut()[count..].fill(0.0);
    let mut sum = L::splat(0.0);
    for vector in weights.iter() {
        sum = sum.add(L::load(vector));
    }
    *total = *total * correction + sum.sum();
    *max = new_max;
    correction
}

#[inline(always)]
pub(super) fn correct<L: Lanes>(sums: &mut [[f32; LANES]], correction: f32) {
    // Multiplying by one changes nothing.
    if correction != 1.0 {
        for sum in sums {
            L::load(sum).mul(L::splat(correction)).store(sum);
        }
    }
}

/// `sums += Σ weight · value` for H heads, positions ascending.
#[inline(always)]
pub(super) fn add_values<L: Lanes, const H: usize>(
    sums: &mut [[f32; LANES]],
    tile: &Tile<'_>,
    weights: &[[[f32; LANES]; TILE_VECTORS]],
    count: usize,
) {
    let vectors = tile.values[0].len();
    let mut first = 0;
    while first < vectors {
        if vectors - first >= SUMMED {
            add_vectors::<L, H, SUMMED>(sums, (tile, first), weights, count);
            first += SUMMED;
        } else {
            add_vectors::<L, H, 1>(sums, (tile, first), weights, count);
            first += 1;
        }
    }
}

#[inline(always)]
fn add_vectors<L: Lanes, const H: usize, const C: usize>(
    sums: &mut [[f32; LANES]],
    (tile, first): (&Tile<'_>, usize),
    weights: &[[[f32; LANES]; TILE_VECTORS]],
    count: usize,
) {
    let vectors = tile.values[0].len();
    let mut totals = [[L::splat(0.0); C]; H];
    for h in 0..H {
        for c in 0..C {
            totals[h][c] = L::load(&sums[h * vectors + first + c]);
        }
    }
    for t in 0..count {
        let row = &tile.values[t][first..first + C];
        let mut value = [L::splat(0.0); C];
        for c in 0..C {
            value[c] = L::load(&row[c]);
        }
        for h in 0..H {
            let weight = L::splat(weights[h].as_flattened()[t]);
            for c in 0..C {
                totals[h][c] = weight.mul_add(value[c], totals[h][c]);
            }
        }
    }
    for h in 0..H {
        for c in 0..C {
            totals[h][c].store(&mut sums[h * vectors + first + c]);
        }
    }
}

#[inline(always)]
pub(super) fn scalar_exp<L: Lanes>(value: f32) -> f32 {
    let mut values = [0.0; LANES];
    L::splat(value).exp().store(&mut values);
    values[0]
}

/// The larger one; NaN in `a` stays.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}
