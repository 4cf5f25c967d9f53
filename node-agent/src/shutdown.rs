//! From the stop signal to the end: nothing new, and nobody is left in the middle of something.

use crate::board::Board;
use crate::exchange::PeerCalls;
use crate::limits::{PEERS_QUIET, PEERS_SERVED_MAX, STATUS_INTERVAL};
use crate::registry::Registry;
use proto::v1::AgentPhase;
use std::sync::Arc;
use std::time::Duration;

/// Who may still need this agent.
#[derive(Clone, Debug)]
pub struct Shutdown {
    pub board: Arc<Board>,
    pub registry: Arc<Registry>,
    pub calls: Arc<PeerCalls>,
    /// The longest that the agent stays.
    pub grace: Duration,
}

/// Whether somebody has drained the agent before it was stopped: whoever did has moved its experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    Given,
    None,
}

impl Shutdown {
    /// Waits for `signal`, takes no new sequences from then on, and returns when nobody needs the agent any more: its
    /// sequences have ended, and the plan has another copy of each expert or has moved them. From that moment on peers
    /// are sent to those copies; under load they would call this one for ever.
    pub async fn run(self, signal: impl Future<Output = ()>) {
        signal.await;
        let notice = match self.board.phase() {
            AgentPhase::Draining => Notice::Given,
            AgentPhase::Unassigned
            | AgentPhase::Loading
            | AgentPhase::Ready
            | AgentPhase::Failed => Notice::None,
        };
        tracing::info!(sequences = self.board.sequences(), "stopping");
        self.board.drain();
        let unneeded = async {
            if notice == Notice::None {
                while self.holds_an_only_copy() {
                    tokio::time::sleep(STATUS_INTERVAL).await;
                }
                // Either way the peers go elsewhere now.
                let _ = tokio::time::timeout(PEERS_SERVED_MAX, self.until_quiet()).await;
            }
            self.calls.withdraw();
            while self.board.sequences() > 0 {
                tokio::time::sleep(STATUS_INTERVAL).await;
            }
        };
        if tokio::time::timeout(self.grace, unneeded).await.is_err() {
            tracing::warn!(
                sequences = self.board.sequences(),
                only_copies = self.holds_an_only_copy(),
                "stopping although somebody may need this agent"
            );
        }
    }

    async fn until_quiet(&self) {
        while !self.calls.quiet_for(PEERS_QUIET) {
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    }

    fn holds_an_only_copy(&self) -> bool {
        let assignment = self.registry.wanted().borrow().clone();
        assignment.is_some_and(|assignment| assignment.holds_an_only_copy())
    }
}
