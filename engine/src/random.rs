//! Random numbers as a function of (seed, position): a replayed sequence draws what it drew before.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a keyed bijection of a
//! counter, so that any position's number is had without the ones before it.

/// Multipliers of one round.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What the key grows by before every round but the first (golden ratio, sqrt(3) - 1).
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// The published generator's number of rounds.
const ROUNDS: usize = 10;

/// One block of Philox4x32-10.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut state = counter;
    let mut key = key;
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
        }
        let (high0, low0) = wide_product(MULTIPLIERS[0], state[0]);
        let (high1, low1) = wide_product(MULTIPLIERS[1], state[2]);
        state = [high1 ^ state[1] ^ key[0], low1, high0 ^ state[3] ^ key[1], low0];
    }
    state
}

/// A number in [0, 1) with 53 random bits, for the token at `position` of the sequence (prompt included).
pub fn uniform(seed: u64, position: u64) -> f64 {
    let counter = [low_half(position), high_half(position), 0, 0];
    let block = philox4x32(counter, [low_half(seed), high_half(seed)]);
    let bits = (u64::from(block[0]) << 32 | u64::from(block[1])) >> 11;
    bits as f64 * (1.0 / (1u64 << 53) as f64)
}

fn wide_product(left: u32, right: u32) -> (u32, u32) {
    let product = u64::from(left) * u64::from(right);
    (high_half(product), low_half(product))
}

fn low_half(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}

fn high_half(value: u64) -> u32 {
    (value >> 32) as u32
}
