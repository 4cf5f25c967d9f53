//! Durations and prices as people write them.

use std::fmt;
use std::time::Duration;

/// Text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("{text:?} is not a duration; write a number and ms, s, m or h, like \"50ms\"")]
    Duration { text: String },
    #[error("{text:?} is not a price; write digits with a point, like \"2.00\"")]
    Decimal { text: String },
}

/// Longest number that is read: enough for any price or duration, and no overflow in 64 bits.
const DIGITS_MAX: usize = 12;
/// Digits after the point of a price: a millionth of a currency unit.
const FRACTION_DIGITS_MAX: usize = 6;

/// Reads a whole number with a unit: `50ms`, `2s`, `5m`, `1h`.
///
/// # Errors
/// [`QuantityError::Duration`].
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let unit_at = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let milliseconds_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number = if digits.len() <= DIGITS_MAX { digits.parse::<u64>().ok() } else { None };
    match number {
        Some(number) if milliseconds_each > 0 => {
            Ok(Duration::from_millis(number * milliseconds_each))
        }
        _ => Err(QuantityError::Duration { text: text.to_owned() }),
    }
}

/// A price, exact to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal {
    pub millionths: u64,
}

impl Decimal {
    /// Reads `2`, `2.5` or `2.00`.
    ///
    /// # Errors
    /// [`QuantityError::Decimal`].
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let failed = || QuantityError::Decimal { text: text.to_owned() };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
        let fits = whole.len() <= DIGITS_MAX && fraction.len() <= FRACTION_DIGITS_MAX;
        if !(digits(whole) && digits(fraction) && fits) {
            return Err(failed());
        }
        let padded = format!("{fraction:0<FRACTION_DIGITS_MAX$}");
        let whole: u64 = whole.parse().map_err(|_| failed())?;
        let fraction: u64 = padded.parse().map_err(|_| failed())?;
        Ok(Self { millionths: whole * 1_000_000 + fraction })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:06}", self.millionths / 1_000_000, self.millionths % 1_000_000)
    }
}
