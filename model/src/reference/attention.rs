//! Attention over the paged cache with a full pass for the maximum.

use super::{HostTensor, ReferenceBackend, ReferenceCache};
use crate::backend::{CacheWidth, Latent, LayoutRow, RowLayout};

pub(super) fn latent(
    cache: &ReferenceCache,
    layout: &RowLayout,
    query: Latent<'_, ReferenceBackend>,
    scale: f32,
) -> HostTensor {
    let (latent, rope) = cache.width.parts();
    let heads = query.latent.columns / latent;
    let mut output = HostTensor::zeros(query.latent.rows, query.latent.columns);
    for (index, row) in layout.rows.iter().enumerate() {
        for head in 0..heads {
            let q = &query.latent.row(index)[head * latent..][..latent];
            let q_rope = &query.rope.row(index)[head * rope..][..rope];
            let mut scores: Vec<f32> = slots(layout, *row)
                .map(|slot| {
                    (dot(q, cache.first.row(slot)) + dot(q_rope, cache.second.row(slot))) * scale
                })
                .collect();
            softmax(&mut scores);
            let out = &mut output.row_mut(index)[head * latent..][..latent];
            for (slot, weight) in slots(layout, *row).zip(scores) {
                add_scaled(out, cache.first.row(slot), weight);
            }
        }
    }
    output
}

pub(super) fn grouped(
    cache: &ReferenceCache,
    layout: &RowLayout,
    query: &HostTensor,
    scale: f32,
) -> HostTensor {
    let mut output = HostTensor::zeros(query.rows, query.columns);
    let CacheWidth::KeysValues { kv_heads, head_dim } = cache.width else {
        return output;
    };
    let heads = query.columns / head_dim;
    for (index, row) in layout.rows.iter().enumerate() {
        for head in 0..heads {
            let kv_head = head * kv_heads / heads;
            let part = kv_head * head_dim..(kv_head + 1) * head_dim;
            let q = &query.row(index)[head * head_dim..][..head_dim];
            let mut scores: Vec<f32> = slots(layout, *row)
                .map(|slot| dot(q, &cache.first.row(slot)[part.clone()]) * scale)
                .collect();
            softmax(&mut scores);
            let out = &mut output.row_mut(index)[head * head_dim..][..head_dim];
            for (slot, weight) in slots(layout, *row).zip(scores) {
                add_scaled(out, &cache.second.row(slot)[part.clone()], weight);
            }
        }
    }
    output
}

/// Cache places of the positions that a row sees.
fn slots(layout: &RowLayout, row: LayoutRow) -> impl Iterator<Item = usize> {
    (0..=row.position).map(move |position| layout.slot(row.segment, position))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}

fn add_scaled(target: &mut [f32], other: &[f32], factor: f32) {
    for (target, other) in target.iter_mut().zip(other) {
        *target += factor * other;
    }
}

fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    for score in scores.iter_mut() {
        *score /= sum;
    }
}
