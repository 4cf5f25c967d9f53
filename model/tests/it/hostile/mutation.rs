//! Random and mutated bytes.

use crate::random::Random;

/// What breaks parsers and arithmetic.
const TOKENS: [&str; 24] = [
    "0",
    "-1",
    "1",
    "2",
    "1.5",
    "1e400",
    "-1e-400",
    "1e308",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    "true",
    "\"\"",
    "\"\\ud800\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":",
    ",",
    "NaN",
    "Infinity",
    "\u{feff}",
];

/// Up to 300 random bytes.
pub(crate) fn random_bytes(random: &mut Random) -> Vec<u8> {
    let length = random.below(300);
    (0..length).map(|_| random.next() as u8).collect()
}

pub(crate) fn token(random: &mut Random) -> &'static str {
    TOKENS[random.below(TOKENS.len())]
}

/// One to three mutations of `valid`: flips, cuts, repeats, inserted tokens, replaced numbers.
pub(crate) fn mutated(random: &mut Random, valid: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        mutate(random, &mut bytes);
    }
    bytes
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let start = random.below(bytes.len());
    let end = (start + 1 + random.below(24)).min(bytes.len());
    match random.below(6) {
        0 => bytes[start] ^= 1 << random.below(8),
        1 => bytes.truncate(start),
        2 => drop(bytes.drain(start..end)),
        3 => bytes.extend_from_within(start..end),
        4 => drop(bytes.splice(start..start, token(random).bytes())),
        _ => replace_number(random, bytes, start),
    }
}

/// Replaces the first number at or behind `start` by a token.
fn replace_number(random: &mut Random, bytes: &mut Vec<u8>, start: usize) {
    let Some(offset) = bytes[start..].iter().position(u8::is_ascii_digit) else { return };
    let first = start + offset;
    let length = bytes[first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(first..first + length, token(random).bytes());
}
