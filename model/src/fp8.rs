//! The e4m3fn format: 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinities, one NaN for each sign, largest
//! finite value 448.

const EXPONENT_BIAS: u32 = 7;
const F32_EXPONENT_BIAS: u32 = 127;
/// Value of the lowest mantissa bit of a denormal: 2^(1 - 7 - 3).
const DENORMAL_STEP: f32 = 1.0 / 512.0;

/// Every e4m3fn byte as f32, exactly.
pub static E4M3: [f32; 256] = table();

/// The value of one e4m3fn byte. Exact: each of the 254 finite values is an f32.
pub const fn e4m3_to_f32(byte: u8) -> f32 {
    let exponent = (byte as u32 >> 3) & 0x0f;
    let mantissa = byte as u32 & 0x07;
    let magnitude = if byte & 0x7f == 0x7f {
        f32::NAN
    } else if exponent == 0 {
        mantissa as f32 * DENORMAL_STEP
    } else {
        f32::from_bits((exponent + F32_EXPONENT_BIAS - EXPONENT_BIAS) << 23 | mantissa << 20)
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

const fn table() -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut byte = 0;
    while byte < values.len() {
        values[byte] = e4m3_to_f32(byte as u8);
        byte += 1;
    }
    values
}
