//! Sixteen f32 in two AVX registers.

use super::lanes::{LANES, Lanes, dot_pair_widened};
use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castsi256_ps,
    _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

/// Needs AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256, __m256);

// SAFETY, for every block below: `launch` is the only user of this type and enters it only on a processor with
// AVX2 and FMA. Loads and stores are unaligned and stay inside the array that is passed.
impl Lanes for Avx2 {
    const ROWS_MAX: usize = 2;
    const TILES_ONE_ROW: usize = 2;
    const TILES_MANY_ROWS: usize = 1;
    const SCORED: usize = 2;

    type Line = (Self, Self);

    #[inline(always)]
    fn line(words: &[u32; LANES]) -> (Self, Self) {
        Self::widen_pairs(words)
    }

    #[inline(always)]
    fn dot_pair(self, line: (Self, Self), pair: u32) -> Self {
        dot_pair_widened(self, line, pair)
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let half = _mm256_set1_ps(value);
            Self(half, half)
        }
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), self.0);
            _mm256_storeu_ps(values.as_mut_ptr().add(8), self.1);
        }
    }

    #[inline(always)]
    fn widen_pairs(words: &[u32; LANES]) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let source = words.as_ptr().cast::<__m256i>();
            let first = _mm256_loadu_si256(source);
            let second = _mm256_loadu_si256(source.add(1));
            let low = Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(first)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(second)),
            );
            let high = Self(
                _mm256_castsi256_ps(_mm256_and_si256(first, mask)),
                _mm256_castsi256_ps(_mm256_and_si256(second, mask)),
            );
            (low, high)
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, addend.0),
                _mm256_fmadd_ps(self.1, factor.1, addend.1),
            )
        }
    }

    /// The instruction returns its second operand when one is NaN.
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_max_ps(floor.0, self.0), _mm256_max_ps(floor.1, self.1)) }
    }

    #[inline(always)]
    fn at_most(self, ceiling: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_min_ps(ceiling.0, self.0), _mm256_min_ps(ceiling.1, self.1)) }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let half = |exponent| {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), bias);
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            };
            Self(half(self.0), half(self.1))
        }
    }
}
