//! When a dead child may be started again. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// A child that lived this long was well: its death starts a new count.
const STABLE: Duration = Duration::from_secs(10);
/// Pause after the second death in a row; it doubles with each further one. The first replacement does not wait,
/// for a single crash should cost as little as possible.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause: a person who repairs the cause should not wait long for the effect.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Deaths in a row from which on it is called a crash loop.
pub const CRASH_LOOP_EXITS: u32 = 3;

/// Deaths of one child.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    exits: u32,
    cause: Option<String>,
    next_start: Option<Instant>,
}

impl Restarts {
    /// The child died at `now` after having lived for `lived`.
    pub fn handle_exit(&mut self, now: Instant, lived: Duration, cause: String) {
        self.exits = if lived >= STABLE { 1 } else { self.exits.saturating_add(1) };
        self.cause = Some(cause);
        self.next_start = Some(now + pause(self.exits));
    }

    /// A new child was started.
    pub fn handle_start(&mut self) {
        self.next_start = None;
    }

    /// Deaths in a row.
    pub fn exits(&self) -> u32 {
        self.exits
    }

    /// Why the last one died.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// When the next one is to be started; `None` while one runs.
    pub fn next_start(&self) -> Option<Instant> {
        self.next_start
    }
}

fn pause(exits: u32) -> Duration {
    match exits {
        0 | 1 => Duration::ZERO,
        // Above 2^16 times the first pause the longest one holds anyway.
        _ => (PAUSE_FIRST * (1 << (exits - 2).min(16))).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(lives: &[u64]) -> Vec<u64> {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        let exit = |&lived: &u64| {
            restarts.handle_exit(now, Duration::from_secs(lived), "x".to_owned());
            let pause = restarts.next_start().map(|at| at - now).unwrap_or_default();
            u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
        };
        lives.iter().map(exit).collect()
    }

    #[test]
    fn first_death_costs_nothing_and_later_ones_wait_longer() {
        assert_eq!(pauses(&[100, 1, 1, 1, 1]), [0, 250, 500, 1000, 2000]);
    }

    #[test]
    fn pause_is_bounded() {
        assert_eq!(pauses(&[0; 40]).last(), Some(&30_000));
    }

    #[test]
    fn a_long_life_is_forgiven() {
        assert_eq!(pauses(&[1, 1, 1, 10, 1]), [0, 250, 500, 0, 250]);
    }
}
