//! `strftime_now`: a moment, given from outside, in a template's words.

use minijinja::{Error, ErrorKind};
use std::fmt::Write;

/// Seconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// The last second of the year 9999, as far as Python's dates reach.
const LAST: u64 = 253_402_300_799;
/// Longest format; templates use some 20 characters.
const FORMAT_BYTES_MAX: usize = 1024;

/// A moment of the Gregorian calendar, UTC.
struct Moment {
    year: u64,
    month: usize,
    day: u64,
    day_of_year: u64,
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

/// Formats as Python's `strftime` in the C locale; a directive that is not known here is an error.
pub(super) fn strftime(now: UnixSeconds, format: &str) -> Result<String, Error> {
    let refuse = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    if format.len() > FORMAT_BYTES_MAX {
        return Err(refuse(format!("the strftime_now format is longer than {FORMAT_BYTES_MAX}")));
    }
    let moment = Moment::at(now);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut directive = characters.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = characters.next();
        }
        let part = directive
            .and_then(|directive| moment.part(directive))
            .ok_or_else(|| refuse(format!("strftime_now does not know all of {format:?}")))?;
        let shown = if unpadded { without_padding(&part) } else { &part };
        text.push_str(shown);
    }
    Ok(text)
}

fn without_padding(part: &str) -> &str {
    let stripped = part.trim_start_matches(['0', ' ']);
    if stripped.is_empty() { "0" } else { stripped }
}

impl Moment {
    /// Days → date after Howard Hinnant's `civil_from_days`: years start in March, so that leap days end them.
    fn at(now: UnixSeconds) -> Self {
        let seconds = now.0.min(LAST);
        let days = seconds / 86_400;
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year =
            day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_march_year + 2) / 153;
        let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let leap = u64::from(
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)),
        );
        let day_of_year =
            if month <= 2 { day_of_march_year - 305 } else { day_of_march_year + 60 + leap };
        Self {
            year,
            month: month as usize,
            day,
            day_of_year,
            weekday: ((days + 4) % 7) as usize,
            hour: seconds % 86_400 / 3_600,
            minute: seconds % 3_600 / 60,
            second: seconds % 60,
        }
    }

    fn part(&self, directive: char) -> Option<String> {
        let month = MONTHS.get(self.month.checked_sub(1)?)?;
        let weekday = WEEKDAYS.get(self.weekday)?;
        let hour_of_half = (self.hour + 11) % 12 + 1;
        let half = if self.hour < 12 { "AM" } else { "PM" };
        let mut text = String::new();
        match directive {
            'Y' => write!(text, "{}", self.year),
            'y' => write!(text, "{:02}", self.year % 100),
            'm' => write!(text, "{:02}", self.month),
            'B' => write!(text, "{month}"),
            'b' | 'h' => write!(text, "{month:.3}"),
            'd' => write!(text, "{:02}", self.day),
            'e' => write!(text, "{:2}", self.day),
            'j' => write!(text, "{:03}", self.day_of_year),
            'A' => write!(text, "{weekday}"),
            'a' => write!(text, "{weekday:.3}"),
            'w' => write!(text, "{}", self.weekday),
            'u' => write!(text, "{}", (self.weekday + 6) % 7 + 1),
            'H' => write!(text, "{:02}", self.hour),
            'I' => write!(text, "{hour_of_half:02}"),
            'p' => write!(text, "{half}"),
            'M' => write!(text, "{:02}", self.minute),
            'S' => write!(text, "{:02}", self.second),
            'f' => write!(text, "000000"),
            'F' => write!(text, "{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => write!(text, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            'R' => write!(text, "{:02}:{:02}", self.hour, self.minute),
            'Z' => write!(text, "UTC"),
            'z' => write!(text, "+0000"),
            '%' => write!(text, "%"),
            _ => return None,
        }
        .ok()?;
        Some(text)
    }
}
