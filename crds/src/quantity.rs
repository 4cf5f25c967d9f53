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
    #[error(
        "{text:?} is not an amount; write digits and a unit, like \"512Gi\", \"16\" or \"500m\""
    )]
    Amount { text: String },
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

/// An amount of a resource as Kubernetes writes them, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    pub billionths: u128,
}

/// Digits of an amount that are read: any disk and any memory, and no overflow in 128 bits with any unit.
const AMOUNT_DIGITS_MAX: usize = 15;
/// Billionths of one.
const ONE: u128 = 1_000_000_000;

impl Quantity {
    /// Reads `16`, `1.5`, `500m`, `512Gi` or `1e9`. Amounts below nothing are refused.
    ///
    /// # Errors
    /// [`QuantityError::Amount`].
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        Self::read(text).ok_or_else(|| QuantityError::Amount { text: text.to_owned() })
    }

    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
        let (number, unit) = (text.get(..end)?, text.get(end..)?);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > AMOUNT_DIGITS_MAX || fraction.contains('.') {
            return None;
        }
        let digits: u128 = digits.parse().ok()?;
        let scaled = digits.checked_mul(billionths_of(unit)?)?;
        let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Some(Self { billionths: scaled / divisor })
    }
}

fn billionths_of(unit: &str) -> Option<u128> {
    Some(match unit {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => ONE,
        "k" => ONE * 1_000,
        "M" => ONE * 1_000_000,
        "G" => ONE * 1_000_000_000,
        "T" => ONE * 1_000_000_000_000,
        "P" => ONE * 1_000_000_000_000_000,
        "E" => ONE * 1_000_000_000_000_000_000,
        "Ki" => ONE << 10,
        "Mi" => ONE << 20,
        "Gi" => ONE << 30,
        "Ti" => ONE << 40,
        "Pi" => ONE << 50,
        "Ei" => ONE << 60,
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?;
            let power: u32 = power.strip_prefix('+').unwrap_or(power).parse().ok()?;
            // As far as E goes.
            if power > 18 {
                return None;
            }
            ONE * 10_u128.pow(power)
        }
    })
}
