//! The homes: which there are, which can take a sequence, and which is least loaded.

use crate::config::Patience;
use crate::watching;
use proto::tls::{Expected, Security};
use proto::v1::{AgentPhase, HomeRole, SetHomesRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

/// Homes in one set; each costs a connection and a watch.
pub const HOMES_MAX: usize = 4096;
/// For a TCP connection to a home: the second try of a first packet that was lost goes out after one second.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// Pings find connections that are dead without saying so, and so end what waits on them: without it, a home that is
/// back at its address would not be seen, as the watch of its status would wait on the old connection. Streams do not
/// wait for this, they go by `Patience::status`, which is shorter.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_WAIT: Duration = Duration::from_secs(3);
/// Bytes that one stream may hold here while its client reads slowly; then the home's own queue fills.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Windows of as many streams as the router has sequences by default, so that slow readers never block the
/// connection for the others.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * STREAM_WINDOW_BYTES;

/// Why a set of homes is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetHomesError {
    #[error("generation {sent} is older than {known}; read the state again and send a newer one")]
    Older { sent: u64, known: u64 },
    #[error("generation {generation} is known with other content; send a newer generation")]
    Different { generation: u64 },
    #[error("model is empty; send the served model's name")]
    ModelEmpty,
    #[error("homes has {count} entries; at most {max} are allowed")]
    TooMany { count: usize, max: usize },
    #[error("homes[{index}].agent_id {agent_id:?} is empty or a duplicate")]
    AgentId { index: usize, agent_id: String },
    #[error("homes[{index}].address {address:?} is not host:port")]
    Address { index: usize, address: String },
    #[error("homes[{index}].role {role} is not known; this router is older than its sender")]
    Role { index: usize, role: i32 },
}

/// What a home's status said last.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Not heard of yet, or not any more.
    Lost {
        reason: String,
    },
    Reported(Report),
}

/// The part of an agent's status that matters here.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub phase: AgentPhase,
    /// Sequences running and waiting there.
    pub sequences: u32,
    /// In tokens; 0 when unknown.
    pub context_length: u32,
    /// When it came.
    pub heard_at: Instant,
}

/// How far a status can be trusted. Less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Freshness {
    Fresh,
    /// The next one is overdue: the home may be frozen.
    Late,
}

impl Report {
    fn freshness(&self, now: Instant, patience: &Patience) -> Freshness {
        if now.saturating_duration_since(self.heard_at) < patience.status_late {
            Freshness::Fresh
        } else {
            Freshness::Late
        }
    }
}

impl Condition {
    pub fn ready(&self) -> Option<&Report> {
        match self {
            Self::Reported(report) if report.phase == AgentPhase::Ready => Some(report),
            Self::Reported(_) | Self::Lost { .. } => None,
        }
    }

    /// Nothing can come from it any more, so that a silent stream on it may be given up.
    pub fn gone(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Reported(report) => report.phase == AgentPhase::Failed,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Lost { reason } => reason.clone(),
            Self::Reported(report) => format!("{:?}", report.phase).to_lowercase(),
        }
    }
}

/// One agent that may be a home. Its watch ends when the last stream on it and the set have let it go.
#[derive(Debug)]
pub struct Home {
    agent_id: String,
    address: String,
    channel: Channel,
    condition: watch::Receiver<Condition>,
    /// Sequences that this router has there.
    in_flight: AtomicU32,
    watch: AbortHandle,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// A home with its part in the set.
#[derive(Debug)]
struct Member {
    home: Arc<Home>,
    role: HomeRole,
    /// Of the model that it serves; empty when that is not known.
    fingerprint: String,
}

/// Which homes will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Those that take new sequences.
    New,
    /// Those with the model that the sequence began on. Empty, here or there: not known, and not compared.
    Continuing { fingerprint: &'a str },
}

impl Wanted<'_> {
    fn fits(self, member: &Member) -> bool {
        match self {
            Self::New => member.role == HomeRole::Open,
            Self::Continuing { fingerprint } => {
                fingerprint.is_empty()
                    || member.fingerprint.is_empty()
                    || fingerprint == member.fingerprint
            }
        }
    }
}

/// A home that one sequence uses; counts as load until it is dropped.
#[derive(Debug)]
pub struct Lease {
    home: Arc<Home>,
    fingerprint: String,
}

impl Lease {
    fn new(member: &Member) -> Self {
        let home = Arc::clone(&member.home);
        home.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { home, fingerprint: member.fingerprint.clone() }
    }

    /// Of the model that it served when it was chosen.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub fn agent_id(&self) -> &str {
        &self.home.agent_id
    }

    pub fn channel(&self) -> Channel {
        self.home.channel.clone()
    }

    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.home.condition.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.home.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a message with the homes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    Changed,
    /// It repeated what was known, as the substrate does every second.
    Same,
}

/// What the choice of a home came to.
#[derive(Debug)]
pub enum Pick {
    Home(Lease),
    /// Homes that will do are ready, but all of them are to be avoided.
    AllAvoided,
    /// None that will do is ready; the text says why.
    NoneReady(String),
}

/// The served model, as `/v1/models` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub model: String,
    /// Seconds since 1970 when this router first heard of it, or of its present files.
    pub created: u64,
    /// Of the model's files; `None` while it is not known.
    pub fingerprint: Option<String>,
    /// In tokens, the shortest of the ready homes'; `None` while none is ready.
    pub context_length: Option<u32>,
}

#[derive(Debug, Default)]
struct Set {
    request: Option<SetHomesRequest>,
    created: u64,
    homes: BTreeMap<String, Member>,
}

/// The set of homes, shared by all requests.
#[derive(Debug)]
pub struct Homes {
    patience: Patience,
    security: Security,
    set: Mutex<Set>,
    /// Moves whenever some home becomes usable or stops being so.
    changes: watch::Sender<u64>,
}

impl Homes {
    pub fn new(patience: Patience, security: Security) -> Self {
        Self { patience, security, set: Mutex::default(), changes: watch::Sender::new(0) }
    }

    // -- mutators

    /// Replaces the set. Homes that stay, by id and address, keep their connections and streams.
    ///
    /// # Errors
    /// [`SetHomesError`]; the set is unchanged then.
    pub fn replace(&self, request: SetHomesRequest) -> Result<Replaced, SetHomesError> {
        let endpoints = check(&request)?;
        let mut set = self.lock();
        if let Some(known) = &set.request {
            if request.generation < known.generation {
                let (sent, known) = (request.generation, known.generation);
                return Err(SetHomesError::Older { sent, known });
            }
            if request.generation == known.generation && request != *known {
                return Err(SetHomesError::Different { generation: request.generation });
            }
            if request == *known {
                return Ok(Replaced::Same);
            }
        }
        let changed = |known: &SetHomesRequest| {
            known.model != request.model
                || fingerprint(known).zip(fingerprint(&request)).is_some_and(|(a, b)| a != b)
        };
        if set.request.as_ref().is_none_or(changed) {
            set.created =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        }
        let mut homes = BTreeMap::new();
        for (home, endpoint) in request.homes.iter().zip(endpoints) {
            let known = set.homes.get(&home.agent_id).map(|known| &known.home);
            let known = known.filter(|known| known.address == home.address).cloned();
            let kept = known.unwrap_or_else(|| {
                Arc::new(self.connect(home.agent_id.clone(), home.address.clone(), &endpoint))
            });
            let fingerprint = home.fingerprint.clone();
            homes.insert(
                home.agent_id.clone(),
                Member { home: kept, role: home.role(), fingerprint },
            );
        }
        set.homes = homes;
        set.request = Some(request);
        drop(set);
        self.changes.send_modify(|count| *count += 1);
        Ok(Replaced::Changed)
    }

    fn connect(&self, agent_id: String, address: String, endpoint: &Endpoint) -> Home {
        let channel = self.security.lazy(endpoint, &Expected::OwnAgents);
        let reason = "its status is not known yet".to_owned();
        let (sender, condition) = watch::channel(Condition::Lost { reason });
        let watcher = watching::Watcher {
            agent_id: agent_id.clone(),
            channel: channel.clone(),
            condition: sender,
            changes: self.changes.clone(),
            silence: self.patience.status,
        };
        let watch = tokio::spawn(watcher.run()).abort_handle();
        Home { agent_id, address, channel, condition, in_flight: AtomicU32::new(0), watch }
    }

    // -- getters

    /// The least loaded ready home of the wanted ones that is not in `avoid`, those with a late status last; ties go
    /// to the smallest id.
    pub fn pick(&self, wanted: Wanted<'_>, avoid: &BTreeSet<String>) -> Pick {
        let now = Instant::now();
        let set = self.lock();
        let mut ready = 0_usize;
        let best = set
            .homes
            .values()
            .filter(|member| wanted.fits(member))
            .filter_map(|member| {
                let home = &member.home;
                let condition = home.condition.borrow();
                let report = condition.ready()?;
                ready += 1;
                let in_flight = home.in_flight.load(Ordering::Relaxed);
                let load = in_flight.saturating_add(report.sequences);
                let order = (report.freshness(now, &self.patience), load, &home.agent_id);
                (!avoid.contains(&home.agent_id)).then_some((order, member))
            })
            .min_by(|(order, _), (other, _)| order.cmp(other));
        match best {
            Some((_, member)) => Pick::Home(Lease::new(member)),
            None if ready > 0 => Pick::AllAvoided,
            None => Pick::NoneReady(explain(&set, wanted)),
        }
    }

    /// The served model; `None` before the first set.
    pub fn served(&self) -> Option<Served> {
        let set = self.lock();
        let request = set.request.as_ref()?;
        let open = set.homes.values().filter(|member| Wanted::New.fits(member));
        let lengths = open.filter_map(|member| {
            member.home.condition.borrow().ready().map(|report| report.context_length)
        });
        Some(Served {
            model: request.model.clone(),
            created: set.created,
            fingerprint: fingerprint(request).map(str::to_owned),
            context_length: lengths.filter(|length| *length > 0).min(),
        })
    }

    /// Why no new request could be answered now; `None` when one could.
    pub fn unready(&self) -> Option<String> {
        let set = self.lock();
        let mut open = set.homes.values().filter(|member| Wanted::New.fits(member));
        let ready = open.any(|member| member.home.condition.borrow().ready().is_some());
        (!ready).then(|| explain(&set, Wanted::New))
    }

    /// Whether this router has been told its homes, if only that there are none.
    pub fn are_known(&self) -> bool {
        self.lock().request.is_some()
    }

    /// Homes in the set, and ready ones among them.
    pub fn counts(&self) -> (usize, usize) {
        let set = self.lock();
        let ready = |member: &&Member| member.home.condition.borrow().ready().is_some();
        (set.homes.len(), set.homes.values().filter(ready).count())
    }

    pub fn generation(&self) -> u64 {
        self.lock().request.as_ref().map_or(0, |request| request.generation)
    }

    /// Wakes when some home became usable or stopped being so.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        // A panic while it was held cannot have left it half changed: fields are replaced whole.
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(request: &SetHomesRequest) -> Result<Vec<Endpoint>, SetHomesError> {
    if request.model.is_empty() {
        return Err(SetHomesError::ModelEmpty);
    }
    if request.homes.len() > HOMES_MAX {
        return Err(SetHomesError::TooMany { count: request.homes.len(), max: HOMES_MAX });
    }
    let mut ids = BTreeSet::new();
    let named = request.homes.iter().enumerate();
    named
        .map(|(index, home)| {
            if home.agent_id.is_empty() || !ids.insert(&home.agent_id) {
                return Err(SetHomesError::AgentId { index, agent_id: home.agent_id.clone() });
            }
            if HomeRole::try_from(home.role).is_err() {
                return Err(SetHomesError::Role { index, role: home.role });
            }
            endpoint(&home.address)
                .ok_or_else(|| SetHomesError::Address { index, address: home.address.clone() })
        })
        .collect()
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return None;
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    Some(
        endpoint
            .connect_timeout(CONNECT_WAIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_WAIT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES),
    )
}

/// Of the files that new sequences are served from.
fn fingerprint(request: &SetHomesRequest) -> Option<&str> {
    let open = request.homes.iter().filter(|home| home.role() == HomeRole::Open);
    open.map(|home| home.fingerprint.as_str()).find(|fingerprint| !fingerprint.is_empty())
}

/// Why none of the wanted ones is ready: each home's condition, or that there is none.
fn explain(set: &Set, wanted: Wanted<'_>) -> String {
    /// Homes named in one message.
    const NAMED_MAX: usize = 8;
    if set.request.is_none() {
        return "the router has not been told its homes yet".to_owned();
    }
    if set.homes.is_empty() {
        return "the set of homes is empty: the deployment sleeps or has just been made".to_owned();
    }
    let fitting: Vec<&Member> = set.homes.values().filter(|member| wanted.fits(member)).collect();
    if fitting.is_empty() {
        return match wanted {
            Wanted::New => "all homes only continue sequences of an earlier model".to_owned(),
            Wanted::Continuing { fingerprint } => format!(
                "no home has the model any more that the answer began on ({fingerprint}); ask again"
            ),
        };
    }
    let named = fitting.iter().take(NAMED_MAX).map(|member| &member.home);
    let named: Vec<String> = named
        .map(|home| format!("{}: {}", home.agent_id, home.condition.borrow().describe()))
        .collect();
    format!("no home is ready ({})", named.join(", "))
}
