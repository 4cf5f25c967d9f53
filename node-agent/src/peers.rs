//! Experts from agents that have them, which is faster than from far away and costs the source nothing. Whatever a
//! peer does not give comes from the source.

use crate::assignment::Assignment;
use crate::fetch::{Downloader, FetchError, FileRange, Progress};
use crate::limits::{CONNECT_TIMEOUT, PEER_CHUNK_TIMEOUT, PEER_FETCHES_MAX, PEERS_ASKED_MAX};
use crate::metrics::FROM_PEER;
use engine::exchange::PeerId;
use futures::StreamExt as _;
use model::executor::ExpertAddress;
use proto::limits::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use proto::tls::{Expected, Security};
use proto::v1::agent_client::AgentClient;
use proto::v1::{ExpertChunk, FetchExpertRequest};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The other agents of an assignment.
#[derive(Clone, Debug)]
pub struct Peers {
    pub assignment: Arc<Assignment>,
    pub fingerprint: String,
    pub security: Security,
}

/// One expert and where its tensors go, in the order in which peers send them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedExpert {
    pub address: ExpertAddress,
    pub tensors: Vec<WantedTensor>,
}

/// One tensor's place on disk; its length is what the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTensor {
    pub name: String,
    pub range: FileRange,
}

/// Why a peer did not give an expert.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("it answers {}", .0.message())]
    Refused(#[from] Box<Status>),
    #[error("nothing came for {} s", PEER_CHUNK_TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("it sent {found} where {expected} was due")]
    Garbled { found: String, expected: String },
    #[error("what it sent cannot be kept")]
    Fetch(#[from] FetchError),
}

impl Peers {
    /// Asks for experts, and returns how many came whole. Their bytes are written, not yet committed.
    pub async fn fetch(
        &self,
        target: &Downloader,
        wanted: Vec<WantedExpert>,
        progress: &Progress,
    ) -> usize {
        if wanted.is_empty() {
            return 0;
        }
        let channels = self.connect().await;
        let experts = futures::stream::iter(wanted)
            .map(|expert| self.one(&channels, target, expert, progress));
        let mut experts = experts.buffer_unordered(PEER_FETCHES_MAX);
        let mut whole = 0;
        while let Some(came) = experts.next().await {
            whole += came;
        }
        whole
    }

    /// Channels to those peers that answer.
    async fn connect(&self) -> BTreeMap<PeerId, Channel> {
        let local = &self.assignment.placement.local;
        let mut others = self.assignment.peers.clone();
        others.remove(local);
        let channels = futures::stream::iter(others).map(|(peer, address)| async move {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
            let endpoint = endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
            let connecting = self.security.connect(&endpoint, &Expected::OwnAgents);
            Some((peer, timeout(CONNECT_TIMEOUT, connecting).await.ok()?.ok()?))
        });
        channels.buffer_unordered(PEER_FETCHES_MAX).filter_map(std::future::ready).collect().await
    }

    /// The plan's other holders first, then others that may hold it still.
    fn candidates<'a>(
        &self,
        channels: &'a BTreeMap<PeerId, Channel>,
        address: ExpertAddress,
    ) -> Vec<(&'a PeerId, &'a Channel)> {
        let holders = self.assignment.placement.copies.get(&address);
        let is_holder = |peer: &PeerId| holders.is_some_and(|holders| holders.contains(peer));
        let (mut first, rest): (Vec<_>, Vec<_>) =
            channels.iter().partition(|(peer, _)| is_holder(peer));
        first.extend(rest);
        first.truncate(PEERS_ASKED_MAX);
        first
    }

    /// 1 when the expert came whole, else 0.
    async fn one(
        &self,
        channels: &BTreeMap<PeerId, Channel>,
        target: &Downloader,
        expert: WantedExpert,
        progress: &Progress,
    ) -> usize {
        let ExpertAddress { layer, expert: number } = expert.address;
        for (peer, channel) in self.candidates(channels, expert.address) {
            match self.ask(channel.clone(), target, &expert, progress).await {
                Ok(()) => return 1,
                Err(error) => {
                    let reason = crate::describe(&error);
                    tracing::debug!(peer = peer.0, layer, expert = number, reason, "no expert");
                }
            }
        }
        0
    }

    async fn ask(
        &self,
        channel: Channel,
        target: &Downloader,
        expert: &WantedExpert,
        progress: &Progress,
    ) -> Result<(), PeerError> {
        let ExpertAddress { layer, expert: number } = expert.address;
        let fingerprint = self.fingerprint.clone();
        let request = FetchExpertRequest { fingerprint, layer, expert: number };
        let mut client = AgentClient::new(channel);
        let answer = timeout(PEER_CHUNK_TIMEOUT, client.fetch_expert(request)).await?;
        let mut chunks = answer.map_err(Box::new)?.into_inner();
        for tensor in &expert.tensors {
            let length = tensor.range.bytes();
            let mut offset = 0;
            while offset < length {
                let chunk = timeout(PEER_CHUNK_TIMEOUT, chunks.message()).await?;
                let chunk = chunk.map_err(Box::new)?.unwrap_or_default();
                check(&chunk, tensor, offset)?;
                let bytes = chunk.data.len() as u64;
                let start = tensor.range.start + offset;
                target.write(FROM_PEER, tensor.range.file, start, chunk.data.into()).await?;
                progress.advance(bytes);
                offset += bytes;
            }
        }
        Ok(())
    }
}

/// The next part of the tensor that our own header says is due.
fn check(chunk: &ExpertChunk, tensor: &WantedTensor, offset: u64) -> Result<(), PeerError> {
    let length = tensor.range.bytes();
    let end = offset + chunk.data.len() as u64;
    let is_due = chunk.tensor == tensor.name
        && chunk.offset == offset
        && chunk.tensor_bytes == length
        && end > offset
        && end <= length;
    if is_due {
        return Ok(());
    }
    Err(PeerError::Garbled {
        found: format!(
            "{} bytes at {} of {:?} with {}",
            chunk.data.len(),
            chunk.offset,
            chunk.tensor,
            chunk.tensor_bytes
        ),
        expected: format!("byte {offset} of {:?} with {length}", tensor.name),
    })
}
