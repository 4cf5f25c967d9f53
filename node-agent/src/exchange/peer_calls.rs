//! Whether peers may call our experts: not any more once the agent leaves.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Shared by the service and whoever ends the agent.
#[derive(Debug)]
pub struct PeerCalls {
    stance: watch::Sender<Stance>,
    last: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    Answering,
    Withdrawn,
}

impl Default for PeerCalls {
    fn default() -> Self {
        Self { stance: watch::Sender::new(Stance::Answering), last: Mutex::new(None) }
    }
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

    /// Answers what has come and takes nothing more: peers find their streams ended and ask another copy.
    pub fn withdraw(&self) {
        self.stance.send_replace(Stance::Withdrawn);
    }

    pub fn is_withdrawn(&self) -> bool {
        *self.stance.borrow() == Stance::Withdrawn
    }

    /// Resolves when calls are not taken any more. Cancel safe.
    pub async fn withdrawn(&self) {
        let mut stance = self.stance.subscribe();
        // The sender is ours and cannot be gone.
        let _ = stance.wait_for(|stance| *stance == Stance::Withdrawn).await;
    }
}
