//! Norms, activations and sums, row by row.

use super::lanes::{LANES, Lanes};
use super::launch::{Instructions, Kernel, launch};
use crate::backend::Routing;
use crate::reference::HostTensor;

/// See [`crate::backend::Backend::rms_norm`].
pub(super) fn rms_norm(
    instructions: Instructions,
    input: &HostTensor,
    weight: &[f32],
    eps: f32,
) -> HostTensor {
    assert_eq!(weight.len(), input.columns, "norm length");
    let mut output = HostTensor::zeros(input.rows, input.columns);
    launch(instructions, RmsNorm { input, weight, eps, output: &mut output });
    output
}

struct RmsNorm<'a> {
    input: &'a HostTensor,
    weight: &'a [f32],
    eps: f32,
    output: &'a mut HostTensor,
}

impl Kernel for RmsNorm<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        for row in 0..self.input.rows {
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
            for ((out, x), weight) in self.output.row_mut(row).iter_mut().zip(x).zip(self.weight) {
                *out = x * factor * weight;
            }
        }
    }
}

/// `gate = silu(gate) · up`.
pub(super) fn silu_mul(instructions: Instructions, gate: &mut HostTensor, up: &HostTensor) {
    assert_eq!(gate.values.len(), up.values.len(), "gate and up");
    launch(instructions, SiluMul { gate: &mut gate.values, up: &up.values });
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
            silu_mul_lanes::<L>(gate, up);
        }
        // The rest goes through full lanes too: an element's result must not depend on where its row stands.
        let mut gate = [0.0; LANES];
        let mut up = [0.0; LANES];
        gate[..gate_rest.len()].copy_from_slice(gate_rest);
        up[..up_rest.len()].copy_from_slice(up_rest);
        silu_mul_lanes::<L>(&mut gate, &up);
        gate_rest.copy_from_slice(&gate[..gate_rest.len()]);
    }
}

#[inline(always)]
fn silu_mul_lanes<L: Lanes>(gate: &mut [f32; LANES], up: &[f32; LANES]) {
    let x = L::load(gate);
    let one = L::splat(1.0);
    let denominator = L::splat(0.0).sub(x).exp().add(one);
    x.div(denominator).mul(L::load(up)).store(gate);
}

/// `target += other`.
pub(super) fn add(target: &mut [f32], other: &[f32]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target += other;
    }
}

/// See [`crate::backend::Backend::combine`]; outputs are bf16.
pub(super) fn combine(
    residual: &mut HostTensor,
    routing: &Routing,
    outputs: &[&[u8]],
    shared: Option<&HostTensor>,
) {
    let mut sum = vec![0.0; residual.columns];
    for row in 0..residual.rows {
        sum.fill(0.0);
        let entries = row * routing.experts_per_row..(row + 1) * routing.experts_per_row;
        for (output, weight) in outputs[entries.clone()].iter().zip(&routing.weights[entries]) {
            for (sum, bytes) in sum.iter_mut().zip(output.as_chunks::<2>().0) {
                *sum += weight * widen(u16::from_le_bytes(*bytes));
            }
        }
        if let Some(shared) = shared {
            add(&mut sum, shared.row(row));
        }
        add(residual.row_mut(row), &sum);
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
pub(super) fn narrow_all(instructions: Instructions, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 2];
    launch(instructions, Narrow { values, bytes: &mut bytes });
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
