//! Until when this process may act as the leader. Every write asks it first.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The moment after which another replica may hold the lease. Closed at first.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    until: Arc<Mutex<Option<Instant>>>,
}

impl Fence {
    /// Writes may begin before that moment.
    pub fn open_until(&self, until: Instant) {
        *self.lock() = Some(until);
    }

    /// No write may begin any more.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// How long a write that begins now may take; `None` when it must not begin.
    pub fn remaining(&self) -> Option<Duration> {
        let remaining = (*self.lock())?.checked_duration_since(Instant::now())?;
        (!remaining.is_zero()).then_some(remaining)
    }

    /// The moment itself.
    pub fn until(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
