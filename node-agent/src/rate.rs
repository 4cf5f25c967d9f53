//! Events per second over a sliding window.

use std::collections::VecDeque;
use std::time::Duration;

/// Samples of a counter that only grows.
#[derive(Debug)]
pub struct Rate {
    window: Duration,
    /// (when, counter), oldest first; the oldest is at most one sample older than the window.
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Takes how far back the mean goes.
    pub fn new(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Adds a sample and returns the mean rate over the window, per second.
    pub fn sample(&mut self, now: Duration, counter: u64) -> f32 {
        self.samples.push_back((now, counter));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= self.window) {
            self.samples.pop_front();
        }
        let Some(&(since, before)) = self.samples.front() else { return 0.0 };
        let seconds = now.saturating_sub(since).as_secs_f32();
        if seconds == 0.0 { 0.0 } else { counter.saturating_sub(before) as f32 / seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;
    use std::time::Duration;

    #[test]
    fn the_mean_follows_the_window() {
        let mut rate = Rate::new(Duration::from_secs(5));
        let at = Duration::from_secs;
        assert_eq!(rate.sample(at(0), 0), 0.0);
        assert_eq!(rate.sample(at(1), 10), 10.0);
        assert_eq!(rate.sample(at(2), 20), 10.0);
        assert_eq!(rate.sample(at(7), 20), 0.0);
        assert_eq!(rate.sample(at(8), 50), 30.0 / 6.0);
    }
}
