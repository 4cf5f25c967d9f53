//! Follows one agent's status for as long as it is in the set; reconnects for ever, with bounded pauses.

use crate::homes::{Condition, Report};
use proto::v1::agent_client::AgentClient;
use proto::v1::{AgentPhase, AgentStatus, GetStatusRequest};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Pauses between attempts: the first is short because an agent that restarts is back soon, the last bounds both
/// the load on a dead address and the time until a returned agent is seen.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);
/// Largest status: the experts resident on one agent, of every layer.
const STATUS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the task of one home owns.
#[derive(Debug)]
pub struct Watcher {
    pub agent_id: String,
    pub channel: Channel,
    pub condition: watch::Sender<Condition>,
    /// Told when the home becomes usable or stops being so.
    pub changes: watch::Sender<u64>,
    /// Without a status for this long the home counts as lost.
    pub silence: Duration,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("no status for {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("its status broke off: {}", .0.message())]
    Broken(Box<Status>),
    #[error("its status ended")]
    Ended,
    #[error("its address is answered by agent {0:?}")]
    OtherAgent(String),
}

impl Watcher {
    /// Runs until its task is aborted.
    pub async fn run(self) {
        let mut pause = PAUSE_FIRST;
        loop {
            let Err(error) = self.follow(&mut pause).await;
            tracing::debug!(agent = self.agent_id, %error, "status lost");
            self.set(Condition::Lost { reason: error.to_string() });
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    async fn follow(&self, pause: &mut Duration) -> Result<std::convert::Infallible, WatchError> {
        let mut client =
            AgentClient::new(self.channel.clone()).max_decoding_message_size(STATUS_BYTES_MAX);
        let silent = |_| WatchError::Silent(self.silence);
        let broken = |status| WatchError::Broken(Box::new(status));
        let opened = timeout(self.silence, client.watch_status(GetStatusRequest {})).await;
        let mut statuses: Streaming<AgentStatus> =
            opened.map_err(silent)?.map_err(broken)?.into_inner();
        loop {
            let next = timeout(self.silence, statuses.message()).await;
            let status = next.map_err(silent)?.map_err(broken)?.ok_or(WatchError::Ended)?;
            // A port may be taken over by another agent after a restart.
            if status.agent_id != self.agent_id {
                return Err(WatchError::OtherAgent(status.agent_id));
            }
            *pause = PAUSE_FIRST;
            let load = status.current.unwrap_or_default();
            self.set(Condition::Reported(Report {
                phase: AgentPhase::try_from(status.phase).unwrap_or(AgentPhase::Unassigned),
                sequences: load.sequences_running.saturating_add(load.sequences_waiting),
                context_length: status.context_length,
                heard_at: Instant::now(),
            }));
        }
    }

    fn set(&self, condition: Condition) {
        let usable = condition.ready().is_some();
        let before = self.condition.send_replace(condition);
        if usable != before.ready().is_some() {
            tracing::info!(agent = self.agent_id, usable, "home changed");
            self.changes.send_modify(|count| *count += 1);
        }
    }
}
