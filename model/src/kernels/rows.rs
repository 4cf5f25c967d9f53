//! Norms, activations and sums, row by row.

use super::disjoint::Disjoint;
use super::lanes::{LANES, Lanes};
use super::launch::{Instructions, Kernel, launch};
use super::split::{Cut, in_parallel};
use crate::backend::{Routing, Split};
use crate::buffers::Buffers;
use crate::parallel::Parallel;
use crate::reference::HostTensor;
use std::ops::Range;

/// Who computes, with what, and where.
pub(super) type Context<'a> = (Instructions, &'a dyn Parallel, &'a Buffers);

/// See [`crate::backend::Backend::rms_norm`].
pub(super) fn rms_norm(
    (instructions, parallel, buffers): Context<'_>,
    input: &HostTensor,
    weight: &[f32],
    eps: f32,
) -> HostTensor {
    assert_eq!(weight.len(), input.columns, "norm length");
    let mut output = HostTensor::reused(buffers, input.rows, input.columns);
    let columns = input.columns;
    let target = Disjoint::new(&mut output.values);
    in_parallel(parallel, Cut::rows(input.rows, columns), &|rows| {
        // SAFETY: each row is written by the one part that has it.
        let output = unsafe { target.slice(rows.start * columns..rows.end * columns) };
        launch(instructions, RmsNorm { input, rows, weight, eps, output });
    });
    output
}

struct RmsNorm<'a> {
    input: &'a HostTensor,
    rows: Range<usize>,
    weight: &'a [f32],
    eps: f32,
    output: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for (row, output) in self.rows.zip(self.output.chunks_mut(self.input.columns.max(1))) {
            let x = self.input.row(row);
            let (chunks, rest) = x.as_chunks::<LANES>();
            let mut squares = L::splat(0.0);
            for chunk in chunks {
                let value = L::load(chunk);
                squares = value.mul_add(value, squares);
            }
            let mut sum = squares.sum();
            for value in rest {
                sum += value * value;
            }
            let factor = 1.0 / (sum / x.len() as f32 + self.eps).sqrt();
            for ((out, x), weight) in output.iter_mut().zip(x).zip(self.weight) {
                *out = x * factor * weight;
            }
        }
    }
}

/// `gate = silu(gate) · up`.
pub(super) fn silu_mul(
    (instructions, parallel, _): Context<'_>,
    gate: &mut HostTensor,
    up: &HostTensor,
) {
    assert_eq!(gate.values.len(), up.values.len(), "gate and up");
    let cut = Cut::rows(gate.rows, gate.columns);
    let columns = gate.columns;
    let target = Disjoint::new(&mut gate.values);
    in_parallel(parallel, cut, &|rows| {
        let range = rows.start * columns..rows.end * columns;
        // SAFETY: each row is written by the one part that has it.
        let gate = unsafe { target.slice(range.clone()) };
        launch(instructions, SiluMul { gate, up: &up.values[range] });
    });
}

struct SiluMul<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for SiluMul<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (gates, gate_rest) = self.gate.as_chunks_mut::<LANES>();
        let (ups, up_rest) = self.up.as_chunks::<LANES>();
        for (gate, up) in gates.iter_mut().zip(ups) {
            silu_mul_lanes::<L>(L::load(gate), L::load(up)).store(gate);
        }
        // The rest goes through full lanes too: an element's result must not depend on where its row stands.
        let mut gate = [0.0; LANES];
        let mut up = [0.0; LANES];
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        up[..up_rest.len()].copy_from_slice(up_rest);
        silu_mul_lanes::<L>(L::load(&gate), L::load(&up)).store(&mut gate);
        gate_rest.copy_from_slice(&gate[..gate_rest.len()]);
    }
}

/// `silu(gate) · up`.
#[inline(always)]
pub(super) fn silu_mul_lanes<L: Lanes>(gate: L, up: L) -> L {
    let denominator = L::splat(0.0).sub(gate).exp().add(L::splat(1.0));
    gate.div(denominator).mul(up)
}

/// `target += other`.
pub(super) fn add(
    (instructions, parallel, _): Context<'_>,
    target: &mut HostTensor,
    other: &HostTensor,
) {
    let columns = target.columns;
    let cut = Cut::rows(target.rows, columns);
    let target = Disjoint::new(&mut target.values);
    in_parallel(parallel, cut, &|rows| {
        let range = rows.start * columns..rows.end * columns;
        // SAFETY: each row is written by the one part that has it.
        let target = unsafe { target.slice(range.clone()) };
        launch(instructions, Add { target, other: &other.values[range] });
    });
}

struct Add<'a> {
    target: &'a mut [f32],
    other: &'a [f32],
}

impl Kernel for Add<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        add_values(self.target, self.other);
    }
}

#[inline(always)]
fn add_values(target: &mut [f32], other: &[f32]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target += other;
    }
}

/// See [`crate::backend::Backend::combine`]; outputs are bf16.
pub(super) fn combine(
    (instructions, parallel, _): Context<'_>,
    residual: &mut HostTensor,
    routing: &Routing,
    outputs: &[&[u8]],
    shared: Option<&HostTensor>,
) {
    let columns = residual.columns;
    // Every output row is read as well.
    let cut = Cut::rows(residual.rows, columns * (routing.experts_per_row + 2));
    let target = Disjoint::new(&mut residual.values);
    in_parallel(parallel, cut, &|rows| {
        // SAFETY: each row is written by the one part that has it.
        let residual = unsafe { target.slice(rows.start * columns..rows.end * columns) };
        launch(instructions, Combine { rows, columns, residual, routing, outputs, shared });
    });
}

struct Combine<'a> {
    rows: Range<usize>,
    columns: usize,
    residual: &'a mut [f32],
    routing: &'a Routing,
    outputs: &'a [&'a [u8]],
    shared: Option<&'a HostTensor>,
}

impl Kernel for Combine<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut sum = vec![0.0; self.columns];
        let per_row = self.routing.experts_per_row;
        for (row, residual) in self.rows.zip(self.residual.chunks_mut(self.columns.max(1))) {
            sum.fill(0.0);
            let entries = row * per_row..(row + 1) * per_row;
            let outputs = self.outputs[entries.clone()].iter();
            for (output, weight) in outputs.zip(&self.routing.weights[entries]) {
                for (sum, bytes) in sum.iter_mut().zip(output.as_chunks::<2>().0) {
                    *sum += weight * widen(u16::from_le_bytes(*bytes));
                }
            }
            if let Some(shared) = self.shared {
                add_values(&mut sum, shared.row(row));
            }
            add_values(residual, &sum);
        }
    }
}

/// bf16 bits → f32, exact.
#[inline(always)]
pub(super) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// f32 → bf16 bits, to nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn narrow(value: f32) -> u16 {
    const QUIET: u32 = 0x40;
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    (if value.is_nan() { bits >> 16 | QUIET } else { rounded }) as u16
}

/// Values as little-endian bf16.
pub(super) fn narrow_all((instructions, parallel, _): Context<'_>, input: &HostTensor) -> Vec<u8> {
    let mut bytes = vec![0; input.values.len() * 2];
    let columns = input.columns;
    let target = Disjoint::new(&mut bytes);
    in_parallel(parallel, Cut::rows(input.rows, columns), &|rows| {
        let range = rows.start * columns..rows.end * columns;
        // SAFETY: each row is written by the one part that has it.
        let bytes = unsafe { target.slice(2 * range.start..2 * range.end) };
        launch(instructions, Narrow { values: &input.values[range], bytes });
    });
    bytes
}

struct Narrow<'a> {
    values: &'a [f32],
    bytes: &'a mut [u8],
}

impl Kernel for Narrow<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for (bytes, value) in self.bytes.as_chunks_mut().0.iter_mut().zip(self.values) {
            *bytes = narrow(*value).to_le_bytes();
        }
    }
}

/// See [`crate::backend::Backend::split`].
pub(super) fn split(
    (_, parallel, buffers): Context<'_>,
    input: &HostTensor,
    split: Split,
) -> (HostTensor, HostTensor) {
    let Split { groups, first, second } = split;
    let mut left = HostTensor::reused(buffers, input.rows, groups * first);
    let mut right = HostTensor::reused(buffers, input.rows, groups * second);
    let lefts = Disjoint::new(&mut left.values);
    let rights = Disjoint::new(&mut right.values);
    in_parallel(parallel, Cut::rows(input.rows, input.columns), &|rows| {
        for row in rows {
            // SAFETY: each row is written by the one part that has it.
            let left = unsafe { lefts.slice(row * groups * first..(row + 1) * groups * first) };
            // SAFETY: as above.
            let right = unsafe { rights.slice(row * groups * second..(row + 1) * groups * second) };
            for group in 0..groups {
                let source = &input.row(row)[group * (first + second)..][..first + second];
                left[group * first..][..first].copy_from_slice(&source[..first]);
                right[group * second..][..second].copy_from_slice(&source[first..]);
            }
        }
    });
    (left, right)
}
