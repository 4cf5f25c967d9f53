//! Everything but attention and the gate's choice.

use super::{HostTensor, ReferenceCache, ReferenceMatrix};
use crate::backend::{Routing, RowLayout, Split};
use crate::config::{Rope, RopePairing};

/// cos and sin of `position · inverse_frequency`, times the amplitude: `[rows, 2 · frequencies]`, cos first.
///
/// The product is rounded to f32 as Hugging Face does; cos and sin are taken in f64, so that no C library's last
/// bit can tell two machines apart.
pub fn angles(layout: &RowLayout, rope: &Rope) -> HostTensor {
    let half = rope.inverse_frequencies.len();
    let mut angles = HostTensor::zeros(layout.rows.len(), 2 * half);
    for (index, row) in layout.rows.iter().enumerate() {
        let (cos, sin) = angles.row_mut(index).split_at_mut(half);
        for (i, &frequency) in rope.inverse_frequencies.iter().enumerate() {
            let angle = f64::from(row.position as f32 * frequency);
            cos[i] = angle.cos() as f32 * rope.amplitude;
            sin[i] = angle.sin() as f32 * rope.amplitude;
        }
    }
    angles
}

pub(super) fn rms_norm(input: &HostTensor, weight: &[f32], eps: f32) -> HostTensor {
    let mut output = HostTensor::zeros(input.rows, input.columns);
    for row in 0..input.rows {
        let x = input.row(row);
        let mut squares = 0.0;
        for value in x {
            squares += value * value;
        }
        let factor = 1.0 / (squares / input.columns as f32 + eps).sqrt();
        for ((out, value), weight) in output.row_mut(row).iter_mut().zip(x).zip(weight) {
            *out = value * factor * weight;
        }
    }
    output
}

pub(super) fn project(
    input: &HostTensor,
    weight: &ReferenceMatrix,
    bias: Option<&[f32]>,
) -> HostTensor {
    let (outputs, inner) = (weight.outputs, weight.inner);
    let mut output = HostTensor::zeros(input.rows, weight.groups * outputs);
    for row in 0..input.rows {
        for column in 0..output.columns {
            let x = &input.row(row)[column / outputs * inner..][..inner];
            let w = &weight.values[column * inner..][..inner];
            let mut sum = 0.0;
            for (x, w) in x.iter().zip(w) {
                sum += x * w;
            }
            output.row_mut(row)[column] = sum + bias.map_or(0.0, |bias| bias[column]);
        }
    }
    output
}

pub(crate) fn split(input: &HostTensor, split: Split) -> (HostTensor, HostTensor) {
    let Split { groups, first, second } = split;
    let mut left = HostTensor::zeros(input.rows, groups * first);
    let mut right = HostTensor::zeros(input.rows, groups * second);
    for row in 0..input.rows {
        for group in 0..groups {
            let (a, b) =
                input.row(row)[group * (first + second)..][..first + second].split_at(first);
            left.row_mut(row)[group * first..][..first].copy_from_slice(a);
            right.row_mut(row)[group * second..][..second].copy_from_slice(b);
        }
    }
    (left, right)
}

pub(super) fn add(target: &mut HostTensor, other: &HostTensor) {
    for (target, other) in target.values.iter_mut().zip(&other.values) {
        *target += other;
    }
}

pub(super) fn silu_mul(gate: &mut HostTensor, up: &HostTensor) {
    for (gate, up) in gate.values.iter_mut().zip(&up.values) {
        *gate = *gate / (1.0 + (-*gate).exp()) * up;
    }
}

pub(crate) fn rope(target: &mut HostTensor, angles: &HostTensor, pairing: RopePairing) {
    let half = angles.columns / 2;
    if half == 0 {
        return;
    }
    for row in 0..target.rows {
        let (cos, sin) = angles.row(row).split_at(half);
        for head in target.row_mut(row).chunks_exact_mut(2 * half) {
            for i in 0..half {
                let (a, b) = match pairing {
                    RopePairing::Interleaved => (2 * i, 2 * i + 1),
                    RopePairing::Halves => (i, i + half),
                };
                let (x, y) = (head[a], head[b]);
                head[a] = x * cos[i] - y * sin[i];
                head[b] = x * sin[i] + y * cos[i];
            }
        }
    }
}

pub(super) fn store(
    cache: &mut ReferenceCache,
    layout: &RowLayout,
    first: &HostTensor,
    second: &HostTensor,
) {
    for (index, row) in layout.rows.iter().enumerate() {
        let slot = layout.slot(row.segment, row.position);
        cache.first.row_mut(slot).copy_from_slice(first.row(index));
        cache.second.row_mut(slot).copy_from_slice(second.row(index));
    }
}

pub(super) fn combine(
    residual: &mut HostTensor,
    routing: &Routing,
    outputs: &[&[u8]],
    shared: Option<&HostTensor>,
) {
    for row in 0..residual.rows {
        let mut sum = vec![0.0; residual.columns];
        let entries = row * routing.experts_per_row..(row + 1) * routing.experts_per_row;
        for (output, weight) in outputs[entries.clone()].iter().zip(&routing.weights[entries]) {
            for (sum, bytes) in sum.iter_mut().zip(output.as_chunks().0) {
                *sum += weight * f32::from_le_bytes(*bytes);
            }
        }
        if let Some(shared) = shared {
            for (sum, shared) in sum.iter_mut().zip(shared.row(row)) {
                *sum += shared;
            }
        }
        for (residual, sum) in residual.row_mut(row).iter_mut().zip(&sum) {
            *residual += sum;
        }
    }
}

pub(super) fn from_bytes(columns: usize, payload: &[u8], picked: &[u32]) -> HostTensor {
    let mut output = HostTensor::zeros(picked.len(), columns);
    for (index, &row) in picked.iter().enumerate() {
        let bytes = &payload[row as usize * columns * 4..][..columns * 4];
        for (value, bytes) in output.row_mut(index).iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    output
}

pub(crate) fn select(input: &HostTensor, picked: &[u32]) -> HostTensor {
    let mut output = HostTensor::zeros(picked.len(), input.columns);
    for (index, &row) in picked.iter().enumerate() {
        output.row_mut(index).copy_from_slice(input.row(row as usize));
    }
    output
}
