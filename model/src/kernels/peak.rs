//! Loops that do nothing but one kind of work, for whoever measures what this machine can do at most.
//!
//! They know no clock: a loop does what it is told and returns how much that was.

#[cfg(target_arch = "x86_64")]
use super::dot_peak;
use super::lanes::{LANES, Lanes};
use super::launch::{Instructions, Kernel, launch};
use super::path::{KernelPath, PathUnavailable};
use std::hint::black_box;

/// Independent sums, so that a multiply-add need not wait for the one before it. The best count depends on how many
/// registers there are: AVX2 holds 6 pairs, AVX-512 12 and more.
const CHAINS_FEW: usize = 6;
const CHAINS_MANY: usize = 12;

/// Values that one round of [`stream`] takes side by side.
const STREAMED: usize = 8;

/// A loop of multiply-adds.
#[derive(Clone, Copy, Debug)]
pub struct PeakLoop(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Few(Instructions),
    Many(Instructions),
    #[cfg(target_arch = "x86_64")]
    DotBf16(dot_peak::HasDot),
}

/// What a loop has done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// A multiply-add is two.
    pub flop: u64,
    /// Depends on every operation, so that none can be left out; keep it alive.
    pub value: f32,
}

impl PeakLoop {
    /// f32 multiply-adds with a path's instructions; the fastest of these loops is the peak. The reference path has
    /// no instructions of its own and stands for the portable one.
    ///
    /// # Errors
    /// [`PathUnavailable`].
    pub fn multiply_adds(path: KernelPath) -> Result<Vec<Self>, PathUnavailable> {
        let instructions = instructions(path)?;
        Ok(vec![Self(Kind::Few(instructions)), Self(Kind::Many(instructions))])
    }

    /// bf16 dot products with f32 sums, where the processor has such an instruction.
    pub fn bf16_dots() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return dot_peak::HasDot::detect().map(|proof| Self(Kind::DotBf16(proof)));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Does `rounds` rounds, of some hundred operations each.
    pub fn run(self, rounds: u64) -> Done {
        match self.0 {
            Kind::Few(instructions) => multiply_add::<CHAINS_FEW>(instructions, rounds),
            Kind::Many(instructions) => multiply_add::<CHAINS_MANY>(instructions, rounds),
            #[cfg(target_arch = "x86_64")]
            Kind::DotBf16(proof) => dot_peak::run(proof, rounds),
        }
    }
}

/// Reads all of `values` once, in order, and returns their sum.
///
/// # Errors
/// [`PathUnavailable`].
pub fn stream(path: KernelPath, values: &[f32]) -> Result<f32, PathUnavailable> {
    let mut sum = 0.0;
    launch(instructions(path)?, Stream { values, sum: &mut sum });
    Ok(sum)
}

fn instructions(path: KernelPath) -> Result<Instructions, PathUnavailable> {
    match path {
        KernelPath::Reference => Instructions::detect(KernelPath::Portable),
        path => Instructions::detect(path),
    }
}

fn multiply_add<const CHAINS: usize>(instructions: Instructions, rounds: u64) -> Done {
    let mut value = 0.0;
    launch(instructions, MultiplyAdd::<CHAINS> { rounds, value: &mut value });
    Done { flop: rounds.saturating_mul((CHAINS * LANES * 2) as u64), value }
}

struct MultiplyAdd<'a, const CHAINS: usize> {
    rounds: u64,
    value: &'a mut f32,
}

impl<const CHAINS: usize> Kernel for MultiplyAdd<'_, CHAINS> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        // Sums stay near 1, far from the slow very small numbers.
        let (factor, addend) = (L::splat(0.999), L::splat(0.001));
        // Hidden from the compiler, or it may see that all sums are one.
        let starts = black_box([0.5; CHAINS]);
        let mut sums = [L::splat(0.0); CHAINS];
        for (sum, start) in sums.iter_mut().zip(starts) {
            *sum = L::splat(start);
        }
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        for sum in sums {
            *self.value += sum.sum();
        }
    }
}

struct Stream<'a> {
    values: &'a [f32],
    sum: &'a mut f32,
}

impl Kernel for Stream<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut sums = [L::splat(0.0); STREAMED];
        let (lines, rest) = self.values.as_chunks::<LANES>();
        let (rounds, last) = lines.as_chunks::<STREAMED>();
        for round in rounds {
            for (sum, line) in sums.iter_mut().zip(round) {
                *sum = sum.add(L::load(line));
            }
        }
        for (sum, line) in sums.iter_mut().zip(last) {
            *sum = sum.add(L::load(line));
        }
        for sum in sums {
            *self.sum += sum.sum();
        }
        for value in rest {
            *self.sum += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PeakLoop, stream};
    use crate::kernels::KernelPath;

    #[test]
    fn loops_do_what_they_count() {
        for path in KernelPath::available() {
            for (peak, per_round) in
                PeakLoop::multiply_adds(path).unwrap().into_iter().zip([192_u64, 384])
            {
                let done = peak.run(10);
                assert_eq!(done.flop, 10 * per_round, "{path}");
                // Every sum goes from 0.5 towards 1: after n rounds it is 1 − 0.5 · 0.999ⁿ.
                let expected = per_round as f32 / 2.0 * (1.0 - 0.5 * 0.999_f32.powi(10));
                assert!((done.value - expected).abs() < 1e-2, "{path}: {}", done.value);
            }
        }
    }

    #[test]
    fn dot_products_do_what_they_count() {
        let Some(peak) = PeakLoop::bf16_dots() else { return };
        let done = peak.run(10);
        assert_eq!(done.flop, 10 * 16 * 16 * 4);
        // Each of 16 · 16 sums gains 2 · (1 · 0.5) in each round.
        assert_eq!(done.value, 256.0 * 10.0);
    }

    #[test]
    fn every_value_is_read() {
        let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        for path in KernelPath::available() {
            for count in [0, 1, 16, 127, 128, 300, 1000] {
                let expected = (count * count.max(1) - count) as f32 / 2.0;
                assert_eq!(stream(path, &values[..count]).unwrap(), expected, "{path} {count}");
            }
        }
    }
}
