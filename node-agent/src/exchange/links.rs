//! One link for each peer that holds experts, kept as the assignment says.

use super::link::Link;
use super::wire::Hello;
use crate::driver::{Command, Commands, EngineGone};
use crate::limits::LINK_QUEUE_MAX;
use crate::metrics::Metrics;
use engine::exchange::{PeerId, Transmit};
use proto::tls::Security;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The links of one agent. Dropping them ends them.
#[derive(Debug)]
pub struct Links {
    commands: Commands,
    metrics: Arc<Metrics>,
    security: Security,
    open: BTreeMap<PeerId, OpenLink>,
}

#[derive(Debug)]
struct OpenLink {
    address: String,
    calls: mpsc::Sender<Transmit>,
    task: JoinHandle<()>,
}

impl Drop for OpenLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Links {
    /// No links yet.
    pub fn new(commands: Commands, metrics: Arc<Metrics>, security: Security) -> Self {
        Self { commands, metrics, security, open: BTreeMap::new() }
    }

    /// Links to exactly these peers at these addresses; a link whose address stays is not touched.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn update(
        &mut self,
        hello: &Hello,
        peers: &BTreeMap<PeerId, String>,
    ) -> Result<(), EngineGone> {
        let stays = |peer: &PeerId, link: &OpenLink| peers.get(peer) == Some(&link.address);
        let ended: Vec<PeerId> = self
            .open
            .iter()
            .filter(|(peer, link)| !stays(peer, link))
            .map(|(peer, _)| peer.clone())
            .collect();
        for peer in ended {
            self.end(peer).await?;
        }
        let mut fresh = Vec::new();
        for (peer, address) in peers {
            if !self.open.contains_key(peer) {
                fresh.push((peer, address, mpsc::channel(LINK_QUEUE_MAX)));
            }
        }
        // The engine must know where calls go before it hears that a peer is up.
        let mut queues: BTreeMap<PeerId, mpsc::Sender<Transmit>> =
            self.open.iter().map(|(peer, link)| (peer.clone(), link.calls.clone())).collect();
        queues.extend(fresh.iter().map(|(peer, _, (calls, _))| ((*peer).clone(), calls.clone())));
        self.commands.send(Command::Links(queues)).await?;
        for (peer, address, (calls, queue)) in fresh {
            let link = Link {
                peer: peer.clone(),
                address: address.clone(),
                hello: hello.clone(),
                commands: self.commands.clone(),
                security: self.security.clone(),
                metrics: Arc::clone(&self.metrics),
            };
            let task = tokio::spawn(link.run(queue));
            self.open.insert(peer.clone(), OpenLink { address: address.clone(), calls, task });
        }
        Ok(())
    }

    async fn end(&mut self, peer: PeerId) -> Result<(), EngineGone> {
        let Some(mut link) = self.open.remove(&peer) else { return Ok(()) };
        link.task.abort();
        // Only once it has ended can it not say any more that the peer is up.
        let _ = (&mut link.task).await;
        let reason = "the plan has another address for this peer, or none".into();
        self.commands.send(Command::PeerDown { peer, reason }).await
    }
}
