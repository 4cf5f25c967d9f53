//! Percentiles of spans in memory that does not grow.

use std::time::Duration;

/// Bounds of the bins grow by a twentieth each: a percentile is off by that much at most. They reach from a tenth of a
/// millisecond to half an hour.
const BINS: usize = 345;
const FIRST_SECONDS: f64 = 1e-4;
const GROWTH: f64 = 1.05;

/// Spans that were measured.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BINS], longest: Duration::ZERO }
    }
}

impl Histogram {
    pub fn add(&mut self, span: Duration) {
        let bins = (span.as_secs_f64() / FIRST_SECONDS).ln() / GROWTH.ln();
        // The cast saturates at both ends.
        let bin = (bins as usize).min(BINS - 1);
        self.counts[bin] += 1;
        self.longest = self.longest.max(span);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The span that this share of all does not exceed; zero when nothing was measured.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = self.count() as f64 * share;
        let mut seen = 0;
        for (bin, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                let upper = FIRST_SECONDS * GROWTH.powf(bin as f64 + 1.0);
                return Duration::from_secs_f64(upper).min(self.longest);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near_and_the_longest_is_exact() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.99), Duration::ZERO);
        for milliseconds in 1..=1000 {
            histogram.add(Duration::from_millis(milliseconds));
        }
        for (share, expected) in [(0.5, 0.5), (0.99, 0.99)] {
            let found = histogram.percentile(share).as_secs_f64();
            assert!((found / expected - 1.0).abs() <= 0.05, "{found}, not {expected}");
        }
        assert_eq!(histogram.longest(), Duration::from_secs(1));
        assert_eq!(histogram.percentile(1.0), Duration::from_secs(1));
        histogram.add(Duration::ZERO);
        histogram.add(Duration::from_secs(1 << 30));
        assert_eq!(histogram.count(), 1002);
    }
}
