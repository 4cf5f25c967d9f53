//! Agents, their requests, and what goes wrong.

use super::network::{Address, Body, Message, Network, Random, Weather, node_of, peer};
use crate::harness::{CONTEXT_LENGTH, Transcript, alone, config, request};
use crate::toy::{ToyExecutor, ToyExperts, ToyVocabulary, VOCAB_SIZE, all_experts};
use engine::engine::{Advance, Engine, EngineConfig, Now};
use engine::exchange::{CallFailure, Placement, Transmit};
use engine::request::{EndOfSequence, Request, SequenceId};
use model::executor::{CacheShape, ExpertAddress, Experts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const NODES: usize = 4;
const JOBS: u64 = 24;
/// From then on nothing more goes wrong, so everything must come to its end.
const CHAOS_END: Now = Duration::from_secs(12);
/// Long enough for everything that is left.
const TIME_MAX: Now = Duration::from_secs(60);
/// Small enough that sequences preempt each other.
const CACHE: CacheShape = CacheShape { block_tokens: 4, block_count: 24 };

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub failovers: u64,
    pub preemptions: u64,
    pub remote: u64,
    pub replays: u64,
    pub crashes: u64,
    pub cancelled: u64,
    pub lost: u64,
    pub doubled: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        let Self { failovers, preemptions, remote, replays, crashes, cancelled, lost, doubled } =
            other;
        self.failovers += failovers;
        self.preemptions += preemptions;
        self.remote += remote;
        self.replays += replays;
        self.crashes += crashes;
        self.cancelled += cancelled;
        self.lost += lost;
        self.doubled += doubled;
    }
}

struct Node {
    /// `None` while dead.
    engine: Option<Engine>,
    experts: Arc<ToyExperts>,
    wake: Now,
    returns: Now,
}

/// A request as its router sees it.
struct Job {
    request: Request,
    starts: Now,
    home: Option<(usize, SequenceId)>,
    transcript: Transcript,
    cancel: Option<Now>,
}

impl Job {
    fn is_open(&self) -> bool {
        self.transcript.end.is_none() && self.cancel != Some(Now::ZERO)
    }
}

pub struct World {
    seed: u64,
    now: Now,
    random: Random,
    network: Network,
    nodes: Vec<Node>,
    /// How often each agent was born again.
    lives: [u64; NODES],
    jobs: Vec<Job>,
    copies: BTreeMap<ExpertAddress, Vec<usize>>,
    generation: u64,
    next_trouble: Now,
    totals: Totals,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let copies = any_copies(&mut random);
        let jobs = (0..JOBS).map(|_| any_job(&mut random)).collect();
        let mut world = Self {
            seed,
            now: Now::ZERO,
            random,
            network: Network::default(),
            nodes: Vec::new(),
            lives: [0; NODES],
            jobs,
            copies,
            generation: 1,
            next_trouble: Duration::from_millis(300),
            totals: Totals::default(),
        };
        for index in 0..NODES {
            let experts = world.experts_of(index);
            let engine = Some(world.new_engine(index, &experts));
            world.nodes.push(Node { engine, experts, wake: Now::ZERO, returns: Now::ZERO });
        }
        for index in 0..NODES {
            world.announce(index);
        }
        world
    }

    pub fn run(&mut self) {
        while self.jobs.iter().any(Job::is_open) {
            assert!(self.now < TIME_MAX, "seed {}: {}", self.seed, self.describe());
            while let Some(message) = self.network.take_due(self.now) {
                self.deliver(message);
            }
            self.make_trouble();
            self.tend_jobs();
            for index in 0..NODES {
                self.drive(index);
            }
            self.now = self.next_time();
        }
        for index in 0..NODES {
            self.count(index);
        }
    }

    pub fn check_answers(&self) {
        for job in self.jobs.iter().filter(|job| job.cancel != Some(Now::ZERO)) {
            assert_eq!(job.transcript, alone(&job.request), "seed {}", self.seed);
        }
    }

    pub fn totals(&self) -> Totals {
        Totals { lost: self.network.lost, doubled: self.network.doubled, ..self.totals }
    }

    fn describe(&self) -> String {
        let open = self.jobs.iter().filter(|job| job.is_open()).count();
        let troubles: Vec<_> =
            self.nodes.iter().filter_map(|node| Some(node.engine.as_ref()?.troubles())).collect();
        format!("{open} jobs are still open; troubles: {troubles:?}")
    }

    fn weather(&self) -> Weather {
        if self.now < CHAOS_END { Weather::Bad } else { Weather::Good }
    }

    fn next_time(&self) -> Now {
        let wakes = self.nodes.iter().filter(|node| node.engine.is_some()).map(|node| node.wake);
        let starts = self
            .jobs
            .iter()
            .map(|job| job.starts)
            .chain(self.jobs.iter().filter_map(|job| job.cancel));
        let returns =
            self.nodes.iter().filter(|node| node.engine.is_none()).map(|node| node.returns);
        let next = wakes
            .chain(starts)
            .chain(returns)
            .chain(self.network.next_arrival())
            .chain([self.next_trouble])
            .filter(|time| *time > self.now)
            .min();
        next.unwrap_or(TIME_MAX)
    }

    // -- agents

    fn experts_of(&self, node: usize) -> Arc<ToyExperts> {
        let resident: BTreeSet<ExpertAddress> = self
            .copies
            .iter()
            .filter(|(_, holders)| holders.contains(&node))
            .map(|(address, _)| *address)
            .collect();
        Arc::new(ToyExperts::some(resident))
    }

    fn placement(&self, node: usize) -> Placement {
        let copies = self
            .copies
            .iter()
            .map(|(address, holders)| (*address, holders.iter().map(|node| peer(*node)).collect()))
            .collect();
        Placement { generation: self.generation, local: peer(node), copies }
    }

    fn new_engine(&self, node: usize, experts: &Arc<ToyExperts>) -> Engine {
        let bounds = EngineConfig { step_tokens_max: 24, sequences_max: 5, ..config() };
        let executor = Box::new(ToyExecutor::new(CACHE, CONTEXT_LENGTH));
        let placement = self.placement(node);
        Engine::new(bounds, executor, Arc::clone(experts) as _, Arc::new(ToyVocabulary), placement)
    }

    fn address(&self, node: usize) -> Address {
        Address { node, life: self.lives[node] }
    }

    /// Streams between this agent and all that live come up.
    fn announce(&mut self, node: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            for (from, to) in [(node, other), (other, node)] {
                let delay = self.random.milliseconds(1, 100);
                if self.nodes[from].engine.is_some() && self.nodes[to].engine.is_some() {
                    let message =
                        Message { from: self.address(from), to: self.address(to), body: Body::Up };
                    self.network.post(self.now + delay, message);
                }
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        let Message { from, to, body } = message;
        if self.lives[to.node] != to.life {
            return;
        }
        let sender = peer(from.node);
        // Only the news of an agent's death outlives it.
        let is_current = self.lives[from.node] == from.life;
        let (placement, experts) = (self.placement(to.node), self.experts_of(to.node));
        let node = &mut self.nodes[to.node];
        let Some(engine) = &mut node.engine else { return };
        match body {
            Body::Down => engine.handle_peer_down(self.now, &sender, "stream reset"),
            Body::Placement => {
                node.experts = Arc::clone(&experts);
                engine.handle_placement(self.now, placement, experts);
            }
            _ if !is_current => {}
            Body::Up => engine.handle_peer_up(self.now, &sender),
            Body::Reply { call_id, reply } => {
                engine.handle_reply(self.now, &sender, call_id, reply);
            }
            Body::Call(call) => self.answer(from, to, &call),
        }
    }

    fn answer(&mut self, caller: Address, answerer: Address, call: &Transmit) {
        let weather = self.weather();
        let experts = &self.nodes[answerer.node].experts;
        let mut reply = experts
            .compute(call.layer, &call.calls, &call.rows)
            .map_err(|error| CallFailure::NotResident(error.to_string()));
        if weather == Weather::Bad && self.random.percent(4) {
            reply = match self.random.below(3) {
                0 => Err(CallFailure::Overloaded),
                1 => Err(CallFailure::Refused("a bad day".into())),
                _ => Ok(vec![0; 3]),
            };
        }
        let body = Body::Reply { call_id: call.call_id, reply };
        let message = Message { from: answerer, to: caller, body };
        self.network.send(self.now, weather, &mut self.random, message);
    }

    /// Lets an agent do all that it can do now.
    fn drive(&mut self, index: usize) {
        let (weather, from) = (self.weather(), self.address(index));
        let Some(engine) = &mut self.nodes[index].engine else { return };
        loop {
            while let Some(transmit) = engine.poll_transmit() {
                let node = node_of(&transmit.peer);
                assert_ne!(node, index, "an agent calls itself");
                let to = Address { node, life: self.lives[node] };
                let message = Message { from, to, body: Body::Call(transmit) };
                self.network.send(self.now, weather, &mut self.random, message);
            }
            while let Some((id, event)) = engine.poll_event() {
                let home = Some((index, id));
                let job = self.jobs.iter_mut().find(|job| job.home == home).unwrap();
                job.transcript.record(event);
            }
            self.nodes[index].wake = match engine.advance(self.now) {
                Advance::Ran => continue,
                Advance::Waiting { until } => {
                    assert!(until > self.now, "waits for the past");
                    until
                }
                Advance::Idle => TIME_MAX,
            };
            return;
        }
    }

    // -- what goes wrong

    fn make_trouble(&mut self) {
        for index in 0..NODES {
            if self.nodes[index].engine.is_none() && self.nodes[index].returns <= self.now {
                let experts = self.experts_of(index);
                let engine = self.new_engine(index, &experts);
                self.nodes[index].engine = Some(engine);
                self.nodes[index].experts = experts;
                self.announce(index);
            }
        }
        if self.now < self.next_trouble || self.now >= CHAOS_END {
            return;
        }
        self.next_trouble = self.now + self.random.milliseconds(100, 1200);
        if self.random.percent(50) {
            self.crash_some();
        } else {
            self.copies = any_copies(&mut self.random);
            self.generation += 1;
            for node in 0..NODES {
                let arrival = self.now + self.random.milliseconds(0, 300);
                let to = self.address(node);
                self.network.post(arrival, Message { from: to, to, body: Body::Placement });
            }
        }
    }

    fn crash_some(&mut self) {
        let index = self.random.below(NODES as u64) as usize;
        let alive = self.nodes.iter().filter(|node| node.engine.is_some()).count();
        if self.nodes[index].engine.is_none() || alive < 2 {
            return;
        }
        self.count(index);
        self.totals.crashes += 1;
        let dead = self.address(index);
        self.nodes[index].engine = None;
        self.lives[index] += 1;
        self.nodes[index].returns = self.now + self.random.milliseconds(400, 2500);
        for other in (0..NODES).filter(|other| *other != index) {
            let arrival = self.now + self.random.milliseconds(1, 300);
            let message = Message { from: dead, to: self.address(other), body: Body::Down };
            self.network.post(arrival, message);
        }
        for job in self.jobs.iter_mut().filter(|job| job.home.is_some_and(|home| home.0 == index)) {
            job.home = None;
        }
    }

    fn count(&mut self, index: usize) {
        if let Some(engine) = &self.nodes[index].engine {
            let load = engine.load();
            self.totals.failovers += load.expert_failovers_total;
            self.totals.preemptions += load.preemptions_total;
            self.totals.remote += load.expert_rows_remote_total;
        }
    }

    // -- requests

    /// What routers do: start requests, move those whose home died, cancel some.
    fn tend_jobs(&mut self) {
        for index in 0..self.jobs.len() {
            let job = &mut self.jobs[index];
            if job.starts > self.now || !job.is_open() {
                continue;
            }
            if job.cancel.is_some_and(|time| time <= self.now) {
                job.cancel = Some(Now::ZERO);
                self.totals.cancelled += 1;
                if let Some((node, id)) = job.home.take()
                    && let Some(engine) = &mut self.nodes[node].engine
                {
                    engine.cancel(id);
                }
            } else if job.home.is_none() {
                self.place(index);
            }
        }
    }

    fn place(&mut self, index: usize) {
        let first = self.random.below(NODES as u64) as usize;
        let alive = |node: &usize| self.nodes[*node].engine.is_some();
        let Some(node) = (0..NODES).map(|step| (first + step) % NODES).find(alive) else { return };
        let job = &mut self.jobs[index];
        let emitted_token_ids = job.transcript.token_ids();
        self.totals.replays += u64::from(!emitted_token_ids.is_empty());
        let request = Request { emitted_token_ids, ..job.request.clone() };
        let engine = self.nodes[node].engine.as_mut().unwrap();
        job.home = Some((node, engine.submit(request).unwrap()));
    }
}

/// One to three copies of each expert.
fn any_copies(random: &mut Random) -> BTreeMap<ExpertAddress, Vec<usize>> {
    let mut holders = || {
        let first = random.below(NODES as u64) as usize;
        let count = 1 + random.below(3) as usize;
        (0..count).map(|step| (first + step) % NODES).collect()
    };
    all_experts().into_iter().map(|address| (address, holders())).collect()
}

fn any_job(random: &mut Random) -> Job {
    let prompt: Vec<u32> =
        (0..1 + random.below(20)).map(|_| random.below(VOCAB_SIZE as u64) as u32).collect();
    let mut request = request(&prompt);
    request.stop.max_tokens = 8 + random.below(30) as usize;
    if random.percent(80) {
        request.stop.end_of_sequence = EndOfSequence::Ignore;
    }
    if random.percent(50) {
        request.sampling.temperature = 0.9;
        request.sampling.seed = random.below(u64::MAX);
        request.sampling.frequency_penalty = 0.3;
    }
    request.stop.strings = vec!["stopab".to_owned(), "日c".to_owned()];
    let starts = random.milliseconds(0, 8000);
    let cancel = random.percent(8).then(|| starts + random.milliseconds(1, 2000));
    Job { request, starts, home: None, transcript: Transcript::default(), cancel }
}
