//! The last seconds, for the autoscaler: counts and percentiles in memory that does not grow.
//!
//! Knows no clock: times are spans since some origin, and they may only go forward.

use std::time::Duration;

/// Long enough that a quiet deployment has a few requests in it, short enough to follow a burst.
pub const WINDOW: Duration = Duration::from_secs(30);
/// The window moves in steps of three seconds.
const SLOTS: u64 = 10;
/// Bounds of the bins grow by a tenth each, so that a percentile is off by a twentieth at most; they reach from a tenth
/// of a millisecond to 1.7 minutes.
const BINS: usize = 146;
const BIN_FIRST_SECONDS: f64 = 1e-4;
const BIN_GROWTH: f64 = 1.1;
/// What objectives are compared with.
const PERCENTILE: f64 = 0.9;

/// What the window holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    /// Requests that arrived.
    pub requests: u64,
    /// 90th percentiles in seconds; 0 when nothing was measured.
    pub time_to_first_token: f64,
    pub time_per_output_token: f64,
    /// Since the last request ended, or since the origin; zero while one is in flight.
    pub idle: Duration,
}

/// Everything measured in the last [`WINDOW`].
#[derive(Clone, Debug)]
pub struct Window {
    slots: Vec<Slot>,
    in_flight: u64,
    idle_since: Duration,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Which slot of all time it holds.
    number: u64,
    requests: u64,
    first_token: Histogram,
    output_token: Histogram,
}

#[derive(Clone, Debug)]
struct Histogram {
    counts: [u64; BINS],
}

impl Default for Window {
    fn default() -> Self {
        let slots = (0..SLOTS).map(Slot::new).collect();
        Self { slots, in_flight: 0, idle_since: Duration::ZERO }
    }
}

impl Window {
    pub fn request_began(&mut self, now: Duration) {
        self.in_flight += 1;
        self.slot(now).requests += 1;
    }

    pub fn request_ended(&mut self, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.idle_since = self.idle_since.max(now);
    }

    pub fn first_token(&mut self, now: Duration, took: Duration) {
        self.slot(now).first_token.add(took, 1);
    }

    /// `count` tokens came, each after this long.
    pub fn output_tokens(&mut self, now: Duration, each: Duration, count: u64) {
        self.slot(now).output_token.add(each, count);
    }

    pub fn recent(&self, now: Duration) -> Recent {
        let current = slot_number(now);
        let live = || self.slots.iter().filter(|slot| slot.number + SLOTS > current);
        let idle = match self.in_flight {
            0 => now.saturating_sub(self.idle_since),
            _ => Duration::ZERO,
        };
        Recent {
            requests: live().map(|slot| slot.requests).sum(),
            time_to_first_token: percentile(live().map(|slot| &slot.first_token)),
            time_per_output_token: percentile(live().map(|slot| &slot.output_token)),
            idle,
        }
    }

    /// The slot of this moment, emptied if what it held has left the window.
    fn slot(&mut self, now: Duration) -> &mut Slot {
        let number = slot_number(now);
        let index = usize::try_from(number % SLOTS).unwrap_or(0);
        let slot = &mut self.slots[index];
        if slot.number < number {
            *slot = Slot::new(number);
        }
        slot
    }
}

fn slot_number(now: Duration) -> u64 {
    now.as_secs() * SLOTS / WINDOW.as_secs()
}

impl Slot {
    fn new(number: u64) -> Self {
        let empty = Histogram { counts: [0; BINS] };
        Self { number, requests: 0, first_token: empty.clone(), output_token: empty }
    }
}

impl Histogram {
    fn add(&mut self, value: Duration, count: u64) {
        let bins = (value.as_secs_f64() / BIN_FIRST_SECONDS).ln() / BIN_GROWTH.ln();
        // Zero has a logarithm of minus infinity; the cast saturates at both ends.
        let bin = (bins as usize).min(BINS - 1);
        self.counts[bin] = self.counts[bin].saturating_add(count);
    }
}

/// In seconds: the middle of the bin in which the percentile lies.
fn percentile<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> f64 {
    let mut counts = [0_u64; BINS];
    for histogram in histograms {
        for (sum, count) in counts.iter_mut().zip(histogram.counts) {
            *sum = sum.saturating_add(count);
        }
    }
    let total: u64 = counts.iter().sum();
    let wanted = total as f64 * PERCENTILE;
    let mut seen = 0;
    for (bin, count) in counts.iter().enumerate() {
        seen += count;
        if *count > 0 && seen as f64 >= wanted {
            return BIN_FIRST_SECONDS * BIN_GROWTH.powf(bin as f64 + 0.5);
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.06, "{found}, not {expected}");
    }

    #[test]
    fn nothing_measured_is_zero() {
        let found = Window::default().recent(at(7));
        assert_eq!(found, Recent { idle: at(7), ..Recent::default() });
    }

    #[test]
    fn the_percentile_is_that_of_the_values() {
        for scale in [0.001, 0.05, 1.0, 0.8] {
            let mut window = Window::default();
            for rank in 1..=100 {
                let value = Duration::from_secs_f64(scale * f64::from(rank));
                window.first_token(at(1), value);
                window.output_tokens(at(1), value / 7, 3);
            }
            let recent = window.recent(at(2));
            assert_near(recent.time_to_first_token, scale * 90.0);
            assert_near(recent.time_per_output_token, scale * 90.0 / 7.0);
        }
    }

    #[test]
    fn values_beyond_the_bins_are_kept_at_the_ends() {
        let mut window = Window::default();
        window.first_token(at(0), Duration::ZERO);
        assert!(window.recent(at(0)).time_to_first_token < 0.001);
        for _ in 0..100 {
            window.first_token(at(0), at(1_000_000));
        }
        assert!(window.recent(at(0)).time_to_first_token > 90.0);
    }

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let mut window = Window::default();
        window.request_began(at(1));
        window.first_token(at(2), at(4));
        window.request_ended(at(3));
        assert_eq!(window.recent(at(29)).requests, 1);
        assert_near(window.recent(at(29)).time_to_first_token, 4.0);
        for later in [31, 60, 100_000] {
            assert_eq!(
                window.recent(at(later)),
                Recent { idle: at(later - 3), ..Recent::default() }
            );
        }
        window.request_began(at(31));
        assert_eq!(window.recent(at(31)).requests, 1, "its slot is used again");
    }

    #[test]
    fn idle_is_zero_while_a_request_is_in_flight() {
        let mut window = Window::default();
        window.request_began(at(5));
        window.request_began(at(6));
        window.request_ended(at(10));
        assert_eq!(window.recent(at(50)).idle, Duration::ZERO);
        window.request_ended(at(60));
        assert_eq!(window.recent(at(75)).idle, at(15));
    }
}
