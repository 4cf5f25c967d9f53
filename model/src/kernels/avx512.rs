//! Sixteen f32 in one AVX-512 register.

use super::lanes::{LANES, Lanes};
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castpd_ps,
    _mm512_castps_pd, _mm512_castsi512_ps, _mm512_cvtps_epi32, _mm512_div_ps, _mm512_dpbf16_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_shuffle_f32x4, _mm512_shuffle_ps,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_pd, _mm512_unpacklo_pd,
};
use std::marker::PhantomData;

/// Needs AVX-512 F, BW, VL and DQ, and what `D` needs.
#[derive(Clone, Copy)]
pub(super) struct Avx512<D>(__m512, PhantomData<D>);

/// How two bf16 products are added.
pub(super) trait Dot: Copy {
    type Line: Copy;

    fn line(words: &[u32; LANES]) -> Self::Line;
    fn dot_pair(sum: __m512, line: Self::Line, pair: u32) -> __m512;
}

/// Widened, by two fused multiply-adds.
#[derive(Clone, Copy)]
pub(super) struct Widened;

/// By one instruction; needs AVX-512 BF16.
#[derive(Clone, Copy)]
pub(super) struct Paired;

// SAFETY, for every block below: `launch` is the only user of these types and enters them only on a processor with
// their instructions. Loads and stores are unaligned and stay inside the array that is passed.
impl Dot for Widened {
    type Line = (__m512, __m512);

    #[inline(always)]
    fn line(words: &[u32; LANES]) -> Self::Line {
        let (even, odd) = Avx512::<Self>::widen_pairs(words);
        (even.0, odd.0)
    }

    #[inline(always)]
    fn dot_pair(sum: __m512, (even, odd): Self::Line, pair: u32) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let sum = _mm512_fmadd_ps(_mm512_set1_ps(f32::from_bits(pair << 16)), even, sum);
            _mm512_fmadd_ps(_mm512_set1_ps(f32::from_bits(pair & 0xffff_0000)), odd, sum)
        }
    }
}

impl Dot for Paired {
    type Line = __m512i;

    #[inline(always)]
    fn line(words: &[u32; LANES]) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast::<__m512i>()) }
    }

    #[inline(always)]
    fn dot_pair(sum: __m512, line: __m512i, pair: u32) -> __m512 {
        // SAFETY: see above; both types are 64 bytes of bf16.
        unsafe {
            let pair = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair as i32));
            let line = std::mem::transmute::<__m512i, __m512bh>(line);
            _mm512_dpbf16_ps(sum, line, pair)
        }
    }
}

impl<D> Avx512<D> {
    #[inline(always)]
    fn of(value: __m512) -> Self {
        Self(value, PhantomData)
    }
}

impl<D: Dot> Lanes for Avx512<D> {
    /// 6 rows × 2 tiles × (even, odd) = 24 accumulators, 4 registers of weights, the rest for broadcasts.
    const ROWS_MAX: usize = 6;
    const TILES_ONE_ROW: usize = 4;
    const TILES_MANY_ROWS: usize = 2;
    const SCORED: usize = 4;

    type Line = D::Line;

    #[inline(always)]
    fn line(words: &[u32; LANES]) -> D::Line {
        D::line(words)
    }

    #[inline(always)]
    fn dot_pair(self, line: D::Line, pair: u32) -> Self {
        Self::of(D::dot_pair(self.0, line, pair))
    }

    /// Halves, quarters, eighths of several vectors are added in one instruction, in the order of [`Lanes::sum`].
    #[inline(always)]
    fn sums(values: [Self; LANES]) -> Self {
        let mut raw = [values[0].0; LANES];
        for i in 0..LANES {
            raw[i] = values[i].0;
        }
        Self::of(sum_sixteen(raw))
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_loadu_ps(values.as_ptr())) }
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
                Self::of(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))),
                Self::of(_mm512_castsi512_ps(_mm512_and_si512(words, mask))),
            )
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_div_ps(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }

    /// The instruction returns its second operand when one is NaN.
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_max_ps(floor.0, self.0)) }
    }

    #[inline(always)]
    fn at_most(self, ceiling: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self::of(_mm512_min_ps(ceiling.0, self.0)) }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self::of(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        }
    }
}

/// Lane i: the sum of vector i, halves first, then quarters, eighths and single values.
#[inline(always)]
fn sum_sixteen(values: [__m512; LANES]) -> __m512 {
    // SAFETY: see above.
    unsafe {
        let mut halves = [values[0]; 8];
        for i in 0..8 {
            // The shuffles below leave the sums in this order.
            let (a, b) = (values[8 * (i % 2) + i / 2], values[8 * (i % 2) + 4 + i / 2]);
            let (low, high) =
                (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            halves[i] = _mm512_add_ps(low, high);
        }
        let mut quarters = [halves[0]; 4];
        for i in 0..4 {
            let (a, b) = (halves[2 * i], halves[2 * i + 1]);
            let (low, high) =
                (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            quarters[i] = _mm512_add_ps(low, high);
        }
        let mut eighths = [quarters[0]; 2];
        for i in 0..2 {
            let a = _mm512_castps_pd(quarters[2 * i]);
            let b = _mm512_castps_pd(quarters[2 * i + 1]);
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            let high = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            eighths[i] = _mm512_add_ps(low, high);
        }
        let low = _mm512_shuffle_ps::<0x88>(eighths[0], eighths[1]);
        let high = _mm512_shuffle_ps::<0xdd>(eighths[0], eighths[1]);
        _mm512_add_ps(low, high)
    }
}
