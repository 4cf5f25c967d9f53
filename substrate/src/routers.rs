//! Talking to routers: one task for each tells it the homes and asks how it goes, so that a slow one delays nobody.

use crate::dial::Dialer;
use crate::watch::describe;
use proto::v1::router_control_client::RouterControlClient;
use proto::v1::{GetRouterStatusRequest, Home, RouterStatus, SetHomesRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// The router only swaps a list in memory; two seconds mean that it hangs.
const ROUTER_DEADLINE: Duration = Duration::from_secs(2);
/// How often a router is asked. Its percentiles are those of many seconds, and a request that wakes a sleeping
/// deployment waits at most this long for nothing.
const PACE_STEADY: Duration = Duration::from_secs(1);
/// A router connects to new homes on its own and tells nobody; this is how soon it is asked again. It bounds
/// what the first answer after a start waits for nothing.
const PACE_QUICK: Duration = Duration::from_millis(20);

/// The latest word of every router.
pub type RouterWords = BTreeMap<String, RouterOutcome>;

/// What a router answered.
#[derive(Clone, Debug, PartialEq)]
pub enum RouterOutcome {
    /// It has not answered yet.
    Awaited,
    /// It holds the homes that it should; its own view follows.
    Holds(RouterStatus),
    /// It answers, and holds no or other homes.
    Answers(RouterStatus),
    /// It holds a newer generation's homes.
    Outdated { cause: String, generation: u64 },
    /// It did not answer, or refused.
    Failed { cause: String },
}

impl RouterOutcome {
    /// Its own words, if there are any.
    pub fn status(&self) -> Option<&RouterStatus> {
        match self {
            Self::Holds(status) | Self::Answers(status) => Some(status),
            Self::Awaited | Self::Outdated { .. } | Self::Failed { .. } => None,
        }
    }

    /// It takes requests and has an agent to send them to.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Holds(status) => status.homes_ready > 0,
            Self::Awaited | Self::Answers(_) | Self::Outdated { .. } | Self::Failed { .. } => false,
        }
    }
}

/// Whether some router holds homes that it has from an earlier run, or may hold them and has not answered yet. `told`
/// is the number of the homes that this run told, if any: routers whose word is awaited then are new ones. Pure.
pub fn hold_unknown_homes(words: &RouterWords, told: Option<u64>) -> bool {
    words.values().any(|word| match word {
        RouterOutcome::Awaited => told.is_none(),
        RouterOutcome::Answers(status) => status.generation > 0,
        RouterOutcome::Outdated { .. } => true,
        // What one holds that does not answer is protected by its number: it refuses ours, and is outdated then.
        RouterOutcome::Holds(_) | RouterOutcome::Failed { .. } => false,
    })
}

/// What routers are to hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Orders {
    /// `None`: they are told nothing, only asked.
    homes: Option<Arc<SetHomesRequest>>,
    pace: Pace,
}

/// How often routers are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    #[default]
    Steady,
    /// Some router should connect to a ready agent at any moment.
    Quick,
}

/// What a reconciler does with the routers of its deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum RouterDuty {
    /// Its agents are on their way up beside others that serve, or on their way out: routers are told nothing, and
    /// the numbers of agents follow the goal's range alone.
    Candidate,
    /// Its agents serve. Routers are also told these homes of the group that went before, which end what they began.
    Active { resuming: Vec<Home> },
}

/// Homes as a reconciler wants them, without a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Homes {
    pub model: String,
    pub homes: Vec<Home>,
}

/// The latest word of every followed router, and what they are told.
#[derive(Debug)]
pub struct RouterBoard {
    dialer: Dialer,
    shared: Arc<Shared>,
    orders: watch::Sender<Orders>,
    watchers: BTreeMap<String, Watcher>,
    /// Of the last homes that were told. Routers take no lower one, and no other content under an equal one.
    generation: u64,
}

#[derive(Debug, Default)]
struct Shared {
    words: Mutex<RouterWords>,
    changed: Notify,
}

#[derive(Debug)]
struct Watcher(JoinHandle<()>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RouterBoard {
    /// Talks to nobody yet.
    pub fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            shared: Arc::default(),
            orders: watch::Sender::new(Orders::default()),
            watchers: BTreeMap::new(),
            generation: 0,
        }
    }

    /// Talks to exactly these routers from now on. Those that are `ending` are told homes, for what they still send
    /// on, and their words count for nothing.
    pub fn follow(&mut self, addresses: &[String], ending: &[String]) {
        let counted: BTreeSet<&String> = addresses.iter().collect();
        let wanted: BTreeSet<&String> = addresses.iter().chain(ending).collect();
        let shared = &self.shared;
        self.watchers.retain(|address, _| wanted.contains(address));
        {
            let mut words = shared.lock();
            words.retain(|address, _| counted.contains(address));
            for address in counted {
                words.entry(address.clone()).or_insert(RouterOutcome::Awaited);
            }
        }
        for address in wanted {
            self.watchers.entry(address.clone()).or_insert_with(|| {
                let visitor = Visitor {
                    dialer: self.dialer.clone(),
                    address: address.clone(),
                    channel: None,
                    acknowledged: None,
                };
                let visits = visit_for_ever(visitor, Arc::clone(shared), self.orders.subscribe());
                Watcher(tokio::spawn(visits))
            });
        }
    }

    /// Tells every router these homes, under a number that is at least `generation` and higher than that of any
    /// others that some router holds. `None`: they keep what they have.
    pub fn tell(&mut self, homes: Option<Homes>, generation: u64, pace: Pace) {
        let highest = self.highest_elsewhere();
        let request = homes.map(|Homes { model, homes }| {
            let told = self.orders.borrow().homes.clone();
            match told {
                Some(told)
                    if told.homes == homes && told.model == model && highest < told.generation =>
                {
                    told
                }
                told => {
                    let above = told.map_or(0, |told| told.generation.saturating_add(1));
                    let above = above.max(if highest == 0 { 0 } else { highest.saturating_add(1) });
                    self.generation = self.generation.max(above).max(generation);
                    Arc::new(SetHomesRequest { generation: self.generation, model, homes })
                }
            }
        });
        let orders = Orders { homes: request, pace };
        self.orders.send_if_modified(|told| {
            let differs = *told != orders;
            *told = orders;
            differs
        });
    }

    /// The number of the homes that routers are to hold; `None` while they are told nothing.
    pub fn told(&self) -> Option<u64> {
        self.orders.borrow().homes.as_ref().map(|homes| homes.generation)
    }

    /// The highest number of homes that a router holds and we have not told it.
    fn highest_elsewhere(&self) -> u64 {
        let words = self.shared.lock();
        let numbers = words.values().map(|word| match word {
            RouterOutcome::Outdated { generation, .. } => *generation,
            RouterOutcome::Awaited
            | RouterOutcome::Holds(_)
            | RouterOutcome::Answers(_)
            | RouterOutcome::Failed { .. } => 0,
        });
        numbers.max().unwrap_or(0)
    }

    /// A copy of the board.
    pub fn words(&self) -> RouterWords {
        self.shared.lock().clone()
    }

    /// Resolves when some router said something new since the last call. Cancel safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, RouterWords> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, address: &str, word: RouterOutcome) {
        let mut words = self.lock();
        // A task that was just stopped must not put a router back.
        let Some(known) = words.get_mut(address) else { return };
        let is_news = news(known) != news(&word);
        *known = word;
        if is_news {
            self.changed.notify_one();
        }
    }
}

/// What a reconcile should hear of at once. Counters are read at the next round and cause none.
fn news(word: &RouterOutcome) -> (u8, u64, bool, bool) {
    let of = |kind, status: &RouterStatus| {
        (kind, status.generation, status.homes_ready > 0, status.requests_held > 0)
    };
    match word {
        RouterOutcome::Awaited => (0, 0, false, false),
        RouterOutcome::Holds(status) => of(1, status),
        RouterOutcome::Answers(status) => of(2, status),
        RouterOutcome::Outdated { generation, .. } => (3, *generation, false, false),
        RouterOutcome::Failed { .. } => (4, 0, false, false),
    }
}

async fn visit_for_ever(
    mut visitor: Visitor,
    shared: Arc<Shared>,
    mut orders: watch::Receiver<Orders>,
) {
    loop {
        let Orders { homes, pace } = orders.borrow_and_update().clone();
        let word = visitor.visit(homes.as_deref()).await;
        let connects = match &word {
            RouterOutcome::Holds(status) => status.homes_ready == 0,
            RouterOutcome::Awaited
            | RouterOutcome::Answers(_)
            | RouterOutcome::Outdated { .. }
            | RouterOutcome::Failed { .. } => false,
        };
        shared.put(&visitor.address, word);
        let pause = match pace {
            Pace::Quick if connects => PACE_QUICK,
            Pace::Quick | Pace::Steady => PACE_STEADY,
        };
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is kept from one visit to the next.
struct Visitor {
    dialer: Dialer,
    address: String,
    channel: Option<Channel>,
    /// The number of the homes that it took from us.
    acknowledged: Option<u64>,
}

impl Visitor {
    async fn visit(&mut self, homes: Option<&SetHomesRequest>) -> RouterOutcome {
        let channel = match self.channel() {
            Ok(channel) => channel,
            Err(error) => return RouterOutcome::Failed { cause: error.to_string() },
        };
        match tokio::time::timeout(ROUTER_DEADLINE, self.talk(channel, homes)).await {
            Ok(Ok(word)) => word,
            Ok(Err(status)) => RouterOutcome::Failed { cause: describe(status) },
            Err(_) => RouterOutcome::Failed {
                cause: format!("no answer within {} s", ROUTER_DEADLINE.as_secs()),
            },
        }
    }

    async fn talk(
        &mut self,
        channel: Channel,
        homes: Option<&SetHomesRequest>,
    ) -> Result<RouterOutcome, tonic::Status> {
        let mut client = RouterControlClient::new(channel);
        let status = client.get_router_status(GetRouterStatusRequest {}).await?.into_inner();
        let Some(homes) = homes else { return Ok(RouterOutcome::Answers(status)) };
        let holds =
            status.generation == homes.generation && self.acknowledged == Some(homes.generation);
        if holds {
            return Ok(RouterOutcome::Holds(status));
        }
        match client.set_homes(homes.clone()).await {
            Ok(_) => {
                self.acknowledged = Some(homes.generation);
                let status = client.get_router_status(GetRouterStatusRequest {}).await?;
                Ok(RouterOutcome::Holds(status.into_inner()))
            }
            Err(refused) if refused.code() == tonic::Code::FailedPrecondition => {
                self.acknowledged = None;
                let generation = status.generation;
                Ok(RouterOutcome::Outdated { cause: describe(refused), generation })
            }
            Err(failed) => Err(failed),
        }
    }

    fn channel(&mut self) -> Result<Channel, tonic::transport::Error> {
        if let Some(known) = &self.channel {
            return Ok(known.clone());
        }
        let channel = self.dialer.router(&self.address)?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }
}
