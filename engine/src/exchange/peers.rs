//! Which peers may be asked now: open streams, and failures with their back-off.

use super::PeerId;
use crate::engine::Now;
use std::collections::BTreeMap;
use std::time::Duration;

/// First pause after a failed call. A refusal comes back quickly and costs little, so it is soon tried again; a peer
/// that loads an expert or empties its queue needs about that long.
const FAILURE_BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest pause after failed calls: how much later than necessary a pass without another copy may go on.
const FAILURE_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// First pause after a late call. Asking a late peer again may cost a whole deadline, so it is tried more rarely.
const LATE_BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause after late calls: an occasional deadline lost in so much time is bearable.
const LATE_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How a peer disappointed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disappointment {
    Failed,
    Late,
}

impl Disappointment {
    fn backoff(self, last: Option<Duration>) -> Duration {
        let (first, max) = match self {
            Self::Failed => (FAILURE_BACKOFF_FIRST, FAILURE_BACKOFF_MAX),
            Self::Late => (LATE_BACKOFF_FIRST, LATE_BACKOFF_MAX),
        };
        last.map_or(first, |last| last.saturating_mul(2).clamp(first, max))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

#[derive(Clone, Debug)]
struct Trouble {
    how: Disappointment,
    reason: String,
    retry_at: Now,
    backoff: Duration,
}

#[derive(Clone, Debug)]
struct Peer {
    link: Link,
    trouble: Option<Trouble>,
}

/// All peers that we heard of; the others are down.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<PeerId, Peer>,
}

impl Peers {
    /// A stream is open: what happened on older ones is forgotten.
    pub(super) fn set_up(&mut self, peer: &PeerId) {
        self.peers.insert(peer.clone(), Peer { link: Link::Up, trouble: None });
    }

    pub(super) fn set_down(&mut self, now: Now, peer: &PeerId, reason: &str) {
        let trouble = Trouble {
            how: Disappointment::Failed,
            reason: reason.to_owned(),
            retry_at: now,
            backoff: Duration::ZERO,
        };
        self.peers.insert(peer.clone(), Peer { link: Link::Down, trouble: Some(trouble) });
    }

    /// Avoids the peer for a while, longer each time that it disappoints when tried again.
    pub(super) fn disappointed(
        &mut self,
        now: Now,
        peer: &PeerId,
        how: Disappointment,
        reason: String,
    ) {
        let state =
            self.peers.entry(peer.clone()).or_insert(Peer { link: Link::Down, trouble: None });
        match &mut state.trouble {
            // Calls of the same time tell nothing new.
            Some(trouble) if trouble.retry_at > now => trouble.reason = reason,
            trouble => {
                let backoff = how.backoff(trouble.as_ref().map(|trouble| trouble.backoff));
                *trouble = Some(Trouble { how, reason, retry_at: now + backoff, backoff });
            }
        }
    }

    /// The peer answered well and in time.
    pub(super) fn recovered(&mut self, peer: &PeerId) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.trouble = None;
        }
    }

    /// When the peer may be asked: a time that has come when it may be now; `None` while its stream is not open.
    pub(super) fn usable_from(&self, peer: &PeerId) -> Option<Now> {
        let state = self.peers.get(peer)?;
        match state.link {
            Link::Up => Some(state.trouble.as_ref().map_or(Now::ZERO, |trouble| trouble.retry_at)),
            Link::Down => None,
        }
    }

    /// Whether the peer's stream is open and its only fault is that it is slow. When all copies are, asking one of
    /// them is better than letting a pass sit out the back-off.
    pub(super) fn is_merely_late(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|state| match (state.link, &state.trouble) {
            (Link::Up, Some(trouble)) => trouble.how == Disappointment::Late,
            (Link::Up, None) | (Link::Down, _) => false,
        })
    }

    /// Forgets peers that are down and that nobody names any more.
    pub(super) fn forget_down(&mut self, is_named: impl Fn(&PeerId) -> bool) {
        self.peers.retain(|peer, state| match state.link {
            Link::Up => true,
            Link::Down => is_named(peer),
        });
    }

    pub(super) fn troubles(&self) -> Vec<(PeerId, String)> {
        self.peers
            .iter()
            .filter_map(|(peer, state)| {
                Some((peer.clone(), state.trouble.as_ref()?.reason.clone()))
            })
            .collect()
    }
}
