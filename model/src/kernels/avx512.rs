//! Sixteen f32 in one AVX-512 register.

use super::lanes::{LANES, Lanes};
use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps,
    _mm512_cvtps_epi32, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

/// Needs AVX-512 F, BW, VL and DQ.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

// SAFETY, for every block below: `launch` is the only user of this type and enters it only on a processor with
// AVX-512. Loads and stores are unaligned and stay inside the array that is passed.
impl Lanes for Avx512 {
    /// 6 rows × 2 tiles × (even, odd) = 24 accumulators, 4 registers of weights, the rest for broadcasts.
    const ROWS_MAX: usize = 6;
    const TILES_ONE_ROW: usize = 4;
    const TILES_MANY_ROWS: usize = 2;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_loadu_ps(values.as_ptr())) }
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn widen_pairs(words: &[u32; LANES]) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let words = _mm512_loadu_si512(words.as_ptr().cast::<__m512i>());
            let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            (
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))),
                Self(_mm512_castsi512_ps(_mm512_and_si512(words, mask))),
            )
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }

    /// The instruction returns its second operand when one is NaN.
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_max_ps(floor.0, self.0)) }
    }

    #[inline(always)]
    fn at_most(self, ceiling: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_min_ps(ceiling.0, self.0)) }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        }
    }
}
