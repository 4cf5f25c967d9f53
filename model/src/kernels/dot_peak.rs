//! The bf16 dot product instruction at its fastest.

use super::lanes::LANES;
use super::peak::Done;
use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_setzero_ps,
};
use std::hint::black_box;

/// Independent sums: latency 6, two instructions a cycle at most, and registers for 16 and two operands.
const CHAINS: usize = 16;
/// Two bf16 of 1 and of 0.5 in a word.
const ONES: i32 = 0x3f80_3f80;
const HALVES: i32 = 0x3f00_3f00;

/// This processor has the instruction. Only [`HasDot::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct HasDot(());

impl HasDot {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"))
            .then_some(Self(()))
    }
}

/// Sixteen sums of sixteen lanes that each gain two products in every round.
pub(super) fn run(_proof: HasDot, rounds: u64) -> Done {
    // SAFETY: a `HasDot` exists only on a processor with the instruction.
    let value = unsafe { dots(rounds) };
    Done { flop: rounds.saturating_mul((CHAINS * LANES * 4) as u64), value }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn dots(rounds: u64) -> f32 {
    let (one, half) = (as_bf16(_mm512_set1_epi32(ONES)), as_bf16(_mm512_set1_epi32(HALVES)));
    // Hidden from the compiler, or it may see that all sums are one.
    let mut sums = black_box([_mm512_setzero_ps(); CHAINS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, one, half);
        }
    }
    sums.iter().map(|sum| _mm512_reduce_add_ps(*sum)).sum()
}

fn as_bf16(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes without invalid values.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}
