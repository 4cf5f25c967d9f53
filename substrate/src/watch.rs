//! Listening to agents: one gRPC status stream for each, kept open, its latest word on a board.

use crate::dial::Dialer;
use crate::report::{Report, Reports};
use planner::identity::AgentId;
use proto::v1::GetStatusRequest;
use proto::v1::agent_client::AgentClient;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Agents send a status at least every second; one that misses two counts as silent, which is noticed within three
/// seconds of its last word.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);
/// First and longest pause before a broken stream is opened again: short, because an agent that was just
/// started listens within milliseconds, and bounded, because a replaced one has a new address anyway.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// The latest word of every followed agent.
#[derive(Debug)]
pub struct Board {
    dialer: Dialer,
    shared: Arc<Shared>,
    watchers: BTreeMap<AgentId, Watcher>,
}

#[derive(Debug, Default)]
struct Shared {
    reports: Mutex<Reports>,
    changed: Notify,
}

#[derive(Debug)]
struct Watcher {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Board {
    /// Follows nobody yet.
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, shared: Arc::default(), watchers: BTreeMap::new() }
    }

    /// Watches exactly these agents from now on. One with a new address is a new process: what its
    /// predecessor said is forgotten.
    pub fn follow(&mut self, addresses: &BTreeMap<AgentId, String>) {
        let (dialer, shared) = (&self.dialer, &self.shared);
        self.watchers.retain(|agent, watcher| {
            let stays = addresses.get(agent) == Some(&watcher.address);
            if !stays {
                shared.lock().remove(agent);
            }
            stays
        });
        for (agent, address) in addresses {
            self.watchers.entry(agent.clone()).or_insert_with(|| {
                shared.lock().insert(agent.clone(), Report::Awaited);
                let (agent, address) = (agent.clone(), address.clone());
                let watched = Watched { dialer: dialer.clone(), agent, address: address.clone() };
                let task = tokio::spawn(watched.watch(Arc::clone(shared)));
                Watcher { address, task }
            });
        }
    }

    /// A copy of the board.
    pub fn reports(&self) -> Reports {
        self.shared.lock().clone()
    }

    /// Resolves when some agent said something since the last call. Cancel safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Agents repeat themselves all the time; only news wakes the reconcile.
    fn put(&self, agent: &AgentId, report: Report) {
        let mut reports = self.lock();
        let known = reports.insert(agent.clone(), report.clone());
        if known.map(without_counters) != Some(without_counters(report)) {
            self.changed.notify_one();
        }
    }
}

/// Counters move with every token; they are read at the next round and cause none.
fn without_counters(mut report: Report) -> Report {
    if let Report::Heard(status) = &mut report {
        status.current = None;
    }
    report
}

/// Whom one task listens to.
#[derive(Debug)]
struct Watched {
    dialer: Dialer,
    agent: AgentId,
    address: String,
}

impl Watched {
    async fn watch(self, shared: Arc<Shared>) {
        let mut pause = RETRY_FIRST;
        loop {
            match self.listen(&shared).await {
                Ok(()) => pause = RETRY_FIRST,
                Err(cause) => {
                    shared.put(&self.agent, Report::Silent { cause });
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows one stream to its end. `Ok` when the agent closed it in good order.
    async fn listen(&self, shared: &Shared) -> Result<(), String> {
        let channel = self.dialer.agent(&self.address).map_err(|error| with_sources(&error))?;
        let mut client = AgentClient::new(channel);
        let opened = tokio::time::timeout(SILENCE_MAX, client.watch_status(GetStatusRequest {}));
        let mut stream = opened.await.map_err(|_| silence())?.map_err(describe)?.into_inner();
        loop {
            let next = tokio::time::timeout(SILENCE_MAX, stream.message());
            match next.await.map_err(|_| silence())?.map_err(describe)? {
                Some(status) => shared.put(&self.agent, Report::Heard(Box::new(status))),
                None => return Ok(()),
            }
        }
    }
}

fn silence() -> String {
    format!("no status for {} s", SILENCE_MAX.as_secs_f32())
}

/// A gRPC status with the causes below it in one line.
#[allow(clippy::needless_pass_by_value)]
pub fn describe(status: tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(&status);
    while let Some(error) = source {
        let layer = error.to_string();
        if !text.contains(&layer) {
            text = format!("{text}: {layer}");
        }
        source = error.source();
    }
    text
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
