//! When peers last needed our experts.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Remembers the last call.
#[derive(Debug, Default)]
pub struct PeerCalls {
    last: Mutex<Option<Instant>>,
}

impl PeerCalls {
    /// A peer calls.
    pub fn called(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether no peer has called for this long.
    pub fn quiet_for(&self, time: Duration) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= time)
    }
}
