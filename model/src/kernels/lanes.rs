//! Sixteen f32 values side by side, whatever the processor calls them.

/// Values in one [`Lanes`].
pub(super) const LANES: usize = 16;

/// Sixteen f32. Kernels are written over this trait and compiled for each implementation.
///
/// Implementations for an instruction set may be used inside [`super::launch`] alone, which checks the processor.
pub(super) trait Lanes: Copy {
    /// Rows that a matrix kernel computes side by side, as registers allow.
    const ROWS_MAX: usize;
    /// Output tiles side by side with one row, and with several.
    const TILES_ONE_ROW: usize;
    const TILES_MANY_ROWS: usize;
    /// Query heads and positions that attention scores side by side.
    const SCORED: usize;

    /// Sixteen outputs' weights of two inputs, as [`Lanes::dot_pair`] likes them.
    type Line: Copy;

    fn splat(value: f32) -> Self;
    fn load(values: &[f32; LANES]) -> Self;
    fn store(self, values: &mut [f32; LANES]);
    /// Low and high halves of each word as bf16.
    fn widen_pairs(words: &[u32; LANES]) -> (Self, Self);
    fn line(words: &[u32; LANES]) -> Self::Line;
    /// `self + even · even weights + odd · odd weights`; `pair` has the two inputs as bf16, the even one low.
    fn dot_pair(self, line: Self::Line, pair: u32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · factor + addend`, rounded once where the processor can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger of each; NaN in `self` stays.
    fn at_least(self, floor: Self) -> Self;
    /// The smaller of each; NaN in `self` stays.
    fn at_most(self, ceiling: Self) -> Self;
    /// `2^self` for whole numbers from −126 to 127; anything for NaN.
    fn power_of_two(self) -> Self;

    /// All values in one order: halves are added until one value is left.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut values = [0.0; LANES];
        self.store(&mut values);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                values[i] += values[i + width];
            }
            width /= 2;
        }
        values[0]
    }

    /// [`Lanes::sum`] of sixteen.
    #[inline(always)]
    fn sums(values: [Self; LANES]) -> Self {
        let mut sums = [0.0; LANES];
        for i in 0..LANES {
            sums[i] = values[i].sum();
        }
        Self::load(&sums)
    }

    /// e^self within 2 units in the last place; results below the smallest normal number become it.
    #[inline(always)]
    fn exp(self) -> Self {
        // ln 2 in two parts, so that the remainder keeps its low bits.
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        // Adding and taking away 1.5 · 2^23 rounds to a whole number.
        const ROUND: f32 = 12_582_912.0;
        const COEFFICIENTS: [f32; 6] =
            [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];
        let x = self.at_least(Self::splat(-87.3)).at_most(Self::splat(88.3));
        let scaled = x.mul(Self::splat(std::f32::consts::LOG2_E));
        let whole = scaled.add(Self::splat(ROUND)).sub(Self::splat(ROUND));
        let rest = whole.mul_add(Self::splat(-LN_2_HIGH), x);
        let rest = whole.mul_add(Self::splat(-LN_2_LOW), rest);
        let mut sum = Self::splat(COEFFICIENTS[0]);
        for coefficient in &COEFFICIENTS[1..] {
            sum = sum.mul_add(rest, Self::splat(*coefficient));
        }
        let sum = sum.mul_add(rest.mul(rest), rest).add(Self::splat(1.0));
        sum.mul(whole.power_of_two())
    }
}

/// [`Lanes::dot_pair`] by two fused multiply-adds.
#[inline(always)]
pub(super) fn dot_pair_widened<L: Lanes>(sum: L, (even, odd): (L, L), pair: u32) -> L {
    let sum = L::splat(f32::from_bits(pair << 16)).mul_add(even, sum);
    L::splat(f32::from_bits(pair & 0xffff_0000)).mul_add(odd, sum)
}

/// Plain arrays; the compiler makes of them what the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        let mut values = self.0;
        for (value, other) in values.iter_mut().zip(other.0) {
            *value = operation(*value, other);
        }
        Self(values)
    }
}

impl Lanes for Portable {
    const ROWS_MAX: usize = 2;
    const TILES_ONE_ROW: usize = 1;
    const TILES_MANY_ROWS: usize = 1;
    const SCORED: usize = 1;

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
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(values: &[f32; LANES]) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; LANES]) {
        *values = self.0;
    }

    #[inline(always)]
    fn widen_pairs(words: &[u32; LANES]) -> (Self, Self) {
        let low = words.map(|word| f32::from_bits(word << 16));
        let high = words.map(|word| f32::from_bits(word & 0xffff_0000));
        (Self(low), Self(high))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    /// Rounds twice: without the instruction a fused multiply-add is a slow library call.
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul(factor).add(addend)
    }

    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        self.zip(floor, |value, floor| if value < floor { floor } else { value })
    }

    #[inline(always)]
    fn at_most(self, ceiling: Self) -> Self {
        self.zip(ceiling, |value, ceiling| if value > ceiling { ceiling } else { value })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(
            self.0
                .map(|exponent| f32::from_bits(((exponent as i32).wrapping_add(127) << 23) as u32)),
        )
    }
}
