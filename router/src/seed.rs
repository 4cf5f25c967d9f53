//! Seeds of sampling: one for the request, one derived for each of its choices.

/// The odd number of splitmix64: the golden ratio times 2⁶⁴.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// For a request that names none. Drawn once, so that a replay on another home samples alike.
pub fn random() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // Six bits of a UUID are fixed; mixing both halves leaves 64 random ones.
    mix(high ^ low.rotate_left(32))
}

/// Choice 0 samples with the request's own seed, so that it is the same with any `n`.
pub fn of_choice(seed: u64, index: usize) -> u64 {
    match index {
        0 => seed,
        index => mix(seed.wrapping_add(GOLDEN.wrapping_mul(index as u64))),
    }
}

/// The finalizer of splitmix64: a bijection that spreads every input bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
