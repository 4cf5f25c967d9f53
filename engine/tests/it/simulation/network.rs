//! Random numbers and messages under way.

use crate::toy::mix;
use engine::engine::Now;
use engine::exchange::{CallFailure, PeerId, Transmit};
use std::collections::BTreeMap;
use std::time::Duration;

/// A stream of random numbers.
#[derive(Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: mix(seed, 1) }
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state, 2) % bound
    }

    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    pub fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.below((to - from) * 1000))
    }
}

/// One life of an agent: what was sent to an earlier one does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub node: usize,
    pub life: u64,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub from: Address,
    pub to: Address,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Call(Transmit),
    Reply {
        call_id: u64,
        reply: Result<Vec<u8>, CallFailure>,
    },
    /// A stream to the sender is open.
    Up,
    /// The stream to the sender broke.
    Down,
    /// The current plan.
    Placement,
}

/// Messages by arrival.
#[derive(Debug, Default)]
pub struct Network {
    queue: BTreeMap<(Now, u64), Message>,
    sent: u64,
    pub lost: u64,
    pub doubled: u64,
}

/// How the network treats calls and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Bad,
    Good,
}

impl Network {
    pub fn next_arrival(&self) -> Option<Now> {
        self.queue.keys().next().map(|(time, _)| *time)
    }

    pub fn take_due(&mut self, now: Now) -> Option<Message> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// Arrives for certain, at that time.
    pub fn post(&mut self, arrival: Now, message: Message) {
        self.sent += 1;
        self.queue.insert((arrival, self.sent), message);
    }

    /// Arrives once, often or never, some time.
    pub fn send(&mut self, now: Now, weather: Weather, random: &mut Random, message: Message) {
        if weather == Weather::Good {
            return self.post(now + random.milliseconds(1, 3), message);
        }
        if random.percent(3) {
            self.lost += 1;
            return;
        }
        let delay = if random.percent(5) {
            random.milliseconds(50, 3000)
        } else {
            random.milliseconds(1, 20)
        };
        if random.percent(4) {
            self.doubled += 1;
            self.post(now + delay + random.milliseconds(1, 200), message.clone());
        }
        self.post(now + delay, message);
    }
}

pub fn peer(node: usize) -> PeerId {
    PeerId(format!("agent-{node}"))
}

pub fn node_of(peer: &PeerId) -> usize {
    peer.0.strip_prefix("agent-").unwrap().parse().unwrap()
}
