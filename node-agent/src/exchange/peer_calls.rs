//! Whether peers may call our experts: not any more once the agent leaves.

use tokio::sync::watch;

/// Shared by the service and whoever ends the agent.
#[derive(Debug)]
pub struct PeerCalls(watch::Sender<Stance>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    Answering,
    Withdrawn,
}

impl Default for PeerCalls {
    fn default() -> Self {
        Self(watch::Sender::new(Stance::Answering))
    }
}

impl PeerCalls {
    /// Answers what has come and takes nothing more: peers find their streams ended and ask another copy.
    pub fn withdraw(&self) {
        self.0.send_replace(Stance::Withdrawn);
    }

    pub fn is_withdrawn(&self) -> bool {
        *self.0.borrow() == Stance::Withdrawn
    }

    /// Resolves when calls are not taken any more. Cancel safe.
    pub async fn withdrawn(&self) {
        let mut stance = self.0.subscribe();
        // The sender is ours and cannot be gone.
        let _ = stance.wait_for(|stance| *stance == Stance::Withdrawn).await;
    }
}
