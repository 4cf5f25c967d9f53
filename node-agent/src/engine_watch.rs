//! Whether the engine's thread still comes round.

use crate::limits::ENGINE_SAMPLE_INTERVAL;
use model::executor::Pulse;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Watches the pulse of the engine's thread from outside. An idle engine has one too.
#[derive(Debug, Default)]
pub struct EngineWatch {
    followed: Mutex<Option<Followed>>,
}

#[derive(Debug)]
struct Followed {
    pulse: Pulse,
    count: u64,
    moved_at: Instant,
}

impl EngineWatch {
    /// From now on this pulse counts.
    pub fn follow(&self, pulse: Pulse) {
        let count = pulse.count();
        *self.lock() = Some(Followed { pulse, count, moved_at: Instant::now() });
    }

    /// Looks at the pulse now and again, for as long as it is polled.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(ENGINE_SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.stalled();
        }
    }

    /// How long the engine has not moved; zero while there is none.
    pub fn stalled(&self) -> Duration {
        let mut followed = self.lock();
        let Some(followed) = followed.as_mut() else { return Duration::ZERO };
        let count = followed.pulse.count();
        if count != followed.count {
            followed.count = count;
            followed.moved_at = Instant::now();
        }
        followed.moved_at.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Followed>> {
        // The value is replaced as a whole, so a panic elsewhere leaves nothing half done.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
