//! Numbers of agents and routers: laws, and a pool with a queue under one seed.

use planner::identity::AgentId;
use planner::moment::Moment;
use planner::scale::{
    AgentLoad, AgentSignal, RouterLoad, RouterSignal, ScaleInput, ScaleMemory, Scaled, Signals,
    Why, floor, scale,
};
use planner::spec::{ReplicaRange, Scaling};
use proptest::prelude::*;
use std::time::Duration;

const SECOND: u64 = 1_000;

fn scaling() -> Scaling {
    Scaling { scale_down_delay: Duration::from_secs(60), ..Scaling::default() }
}

/// A pool of ready agents with the same load, behind one router.
fn pool(agents: u32, load: AgentLoad, router: RouterLoad) -> Signals {
    let agent = |n| (AgentId::new(format!("agent-{n}")), AgentSignal::Ready(load));
    Signals {
        agents: (0..agents).map(agent).collect(),
        leaving: 0,
        routers: [("router".to_owned(), RouterSignal::Heard(router))].into(),
    }
}

struct World {
    now: u64,
    range: ReplicaRange,
    floor: u32,
    scaling: Scaling,
    memory: ScaleMemory,
}

impl World {
    fn new(wanted: u32, range: (u32, u32)) -> Self {
        let range = ReplicaRange { min: range.0, max: range.1 };
        let memory = ScaleMemory::starting_at(wanted, 1);
        Self { now: 0, range, floor: 1, scaling: scaling(), memory }
    }

    fn step(&mut self, seconds: u64, signals: &Signals) -> Scaled {
        self.now += seconds * SECOND;
        let scaled = scale(
            &ScaleInput {
                now: Moment(self.now),
                agents: self.range,
                routers: ReplicaRange { min: 1, max: 4 },
                scaling: &self.scaling,
                floor: self.floor,
                sequences_max: 64,
                signals,
            },
            &self.memory,
        );
        self.memory = scaled.memory.clone();
        scaled
    }

    /// The same signals for that long, one look each second.
    fn last(&mut self, seconds: u64, signals: &Signals) -> Scaled {
        let mut scaled = self.step(1, signals);
        for _ in 1..seconds {
            scaled = self.step(1, signals);
        }
        scaled
    }
}

fn queued(waiting: u32) -> AgentLoad {
    AgentLoad { running: 8, waiting, cache_used: 50, cache_total: 100, tokens_per_second: 80 }
}

#[test]
fn a_queue_that_lasts_brings_agents_and_a_short_one_does_not() {
    let mut world = World::new(2, (1, 8));
    let long = pool(2, queued(8), RouterLoad::default());
    assert_eq!(world.last(4, &long).agents, 2, "shorter than the delay");
    let idle = pool(2, AgentLoad { running: 4, ..queued(0) }, RouterLoad::default());
    assert_eq!(world.last(2, &idle).agents, 2);
    let grown = world.last(6, &long);
    assert_eq!(grown.agents, 4);
    let change = grown.changes.first().expect("it has just changed");
    assert_eq!(change.why, Why::Queue { waiting: 16, running: 16 });
    assert_eq!(change.to_string(), "agents 2 → 4: 16 sequences wait and 16 run");
}

#[test]
fn a_pool_that_grows_is_not_grown_further_until_it_has_grown() {
    let mut world = World::new(4, (1, 8));
    let mut half = pool(2, queued(8), RouterLoad::default());
    for n in 2..4 {
        half.agents.insert(AgentId::new(format!("agent-{n}")), AgentSignal::Coming);
    }
    assert_eq!(world.last(600, &half).agents, 4);
    // One of them never comes: the others are judged.
    half.agents.insert(AgentId::new("agent-2"), AgentSignal::Failed);
    half.agents.insert(AgentId::new("agent-3"), AgentSignal::Ready(queued(8)));
    assert_eq!(world.last(30, &half).agents, 6);
}

#[test]
fn latencies_of_the_smaller_pool_do_not_count_against_the_larger() {
    let late = RouterLoad {
        in_flight: 40,
        window: Duration::from_secs(60),
        first_token_p90: Some(Duration::from_secs(8)),
        ..RouterLoad::default()
    };
    let busy = AgentLoad { running: 10, cache_used: 10, cache_total: 100, ..AgentLoad::default() };
    let mut world = World::new(2, (1, 8));
    let grown = world.last(6, &pool(2, busy, late));
    assert_eq!(grown.agents, 4);
    assert_eq!(grown.changes[0].why, Why::FirstTokenLate { p90_ms: 8_000, objective_ms: 2_000 });
    let mut coming = pool(2, busy, late);
    coming.agents.insert(AgentId::new("new"), AgentSignal::Coming);
    world.last(30, &coming);
    assert_eq!(world.last(60, &pool(4, busy, late)).agents, 4, "the window is still the old one");
    assert_eq!(world.last(20, &pool(4, busy, late)).agents, 8, "and now it is not");
}

#[test]
fn an_objective_that_no_pool_meets_costs_an_agent_for_each_sequence_at_most() {
    let late = RouterLoad {
        in_flight: 3,
        output_token_p90: Some(Duration::from_secs(5)),
        ..RouterLoad::default()
    };
    let mut world = World::new(3, (1, 100));
    let one = AgentLoad { running: 1, cache_used: 1, cache_total: 100, ..AgentLoad::default() };
    assert_eq!(world.last(300, &pool(3, one, late)).agents, 3);
}

#[test]
fn missing_reports_hold_the_number() {
    let idle =
        pool(4, AgentLoad { cache_total: 100, ..AgentLoad::default() }, RouterLoad::default());
    let mut silent = idle.clone();
    silent.agents.insert(AgentId::new("agent-0"), AgentSignal::Missing);
    let mut deaf = idle.clone();
    deaf.routers.insert("other".to_owned(), RouterSignal::Missing);
    for signals in [silent, deaf, Signals::default()] {
        let mut world = World::new(4, (0, 8));
        world.scaling.sleep_after = Duration::ZERO;
        assert_eq!(world.last(900, &signals).agents, 4);
    }
    let mut world = World::new(4, (1, 8));
    assert_eq!(world.last(62, &idle).agents, 2, "what is heard to be idle shrinks");
}

#[test]
fn the_last_agent_sleeps_and_is_woken_by_a_held_request() {
    let mut world = World::new(1, (0, 4));
    world.floor = 2;
    let idle = |seconds| RouterLoad { idle: Duration::from_secs(seconds), ..RouterLoad::default() };
    assert_eq!(world.step(1, &pool(1, AgentLoad::default(), idle(599))).agents, 2, "the floor");
    let slept = world.step(1, &pool(2, AgentLoad::default(), idle(600)));
    assert_eq!((slept.agents, &slept.changes[0].why), (0, &Why::Asleep { seconds: 600 }));
    assert_eq!(world.last(60, &pool(0, AgentLoad::default(), idle(700))).agents, 0);
    let held = RouterLoad { held: 1, in_flight: 1, ..RouterLoad::default() };
    let woken = world.step(1, &pool(0, AgentLoad::default(), held));
    assert_eq!((woken.agents, &woken.changes[0].why), (2, &Why::Awakened { held: 1 }));
}

#[test]
fn a_smaller_pool_must_hold_the_load_with_room_to_spare() {
    // Two agents at 45 % of what makes them grow: one would be at 90 %.
    let load = AgentLoad { running: 20, cache_used: 38, cache_total: 100, ..AgentLoad::default() };
    let mut world = World::new(2, (1, 4));
    assert_eq!(world.last(900, &pool(2, load, RouterLoad::default())).agents, 2);
    let light = AgentLoad { running: 5, cache_used: 20, ..load };
    let shrunk = world.last(61, &pool(2, light, RouterLoad::default()));
    assert_eq!((shrunk.agents, &shrunk.changes[0].why), (1, &Why::Ample { seconds: 60 }));
}

#[test]
fn routers_follow_requests_in_flight() {
    let mut world = World::new(1, (1, 1));
    let busy = |in_flight| {
        pool(1, AgentLoad::default(), RouterLoad { in_flight, ..RouterLoad::default() })
    };
    assert_eq!(world.last(10, &busy(500)).routers, 3);
    assert_eq!(world.last(300, &busy(400)).routers, 3, "two would have no headroom");
    assert_eq!(world.last(62, &busy(10)).routers, 1);
}

#[test]
fn the_floor_is_what_model_and_copies_need() {
    let spec = crate::world::spec(2, 8, 2);
    let memory = |experts| crate::world::memory_for(experts);
    let floor = |copies, experts| floor(&spec.model, &spec.engine, copies, memory(experts));
    assert_eq!(floor(1, 16), Some(1));
    assert_eq!(floor(2, 16), Some(2), "copies are on different agents");
    assert_eq!(floor(2, 5), Some(7), "32 copies, five on each");
    assert_eq!(floor(1, 0), None);
}

fn any_load() -> impl Strategy<Value = AgentLoad> {
    (0_u32..80, 0_u32..80, 0_u32..=100).prop_map(|(running, waiting, cache_used)| AgentLoad {
        running,
        waiting,
        cache_used,
        cache_total: 100,
        tokens_per_second: running * 10,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is reported, numbers stay within their range and above the floor.
    #[test]
    fn numbers_are_bounded(
        loads in prop::collection::vec((any_load(), 1_u32..6, 0_u32..3), 1..60),
        min in 0_u32..3,
        more in 0_u32..5,
        floor in 1_u32..4,
    ) {
        let mut world = World::new(min, (min, min + more));
        world.floor = floor;
        for (load, agents, held) in loads {
            let router = RouterLoad { held, in_flight: held, ..RouterLoad::default() };
            let scaled = world.step(10, &pool(agents, load, router));
            prop_assert!(scaled.agents <= min + more);
            prop_assert!(scaled.agents >= min);
            prop_assert!(scaled.agents == 0 || scaled.agents >= floor.min(min + more));
            prop_assert!((1..=4).contains(&scaled.routers));
        }
    }

    /// More load never asks for fewer agents.
    #[test]
    fn the_response_is_monotone(load in any_load(), more in any_load(), agents in 1_u32..6) {
        let after = |load| {
            let mut world = World::new(agents, (1, 12));
            world.last(70, &pool(agents, load, RouterLoad::default())).agents
        };
        let larger = AgentLoad {
            running: load.running,
            waiting: load.waiting.max(more.waiting),
            cache_used: load.cache_used.max(more.cache_used),
            ..load
        };
        prop_assert!(after(larger) >= after(load));
    }
}

/// Agents that decode a bounded number of sequences at once, each slower the more there are; requests come at a rate
/// and take a number of tokens.
struct Plant {
    random: u64,
    ready: u32,
    coming: Vec<u64>,
    running: Vec<f64>,
    waiting: u32,
    arrivals: f64,
    /// Tokens in the last second.
    done: u32,
}

/// Sequences that an agent of the plant runs at once, tokens of a request, and tokens a second of an agent.
const SLOTS: u32 = 16;
const TOKENS: f64 = 200.0;
const SPEED: f64 = 400.0;
const LOAD_SECONDS: u64 = 45;

impl Plant {
    fn new(seed: u64, ready: u32) -> Self {
        Self {
            random: seed,
            ready,
            coming: vec![],
            running: vec![],
            waiting: 0,
            arrivals: 0.0,
            done: 0,
        }
    }

    /// A number from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from(u32::try_from(self.random >> 40).expect("24 bits")) / f64::from(1_u32 << 24)
    }

    fn second(&mut self, now: u64, wanted: u32, rate: f64) {
        self.coming.retain(|ready_at| {
            let is_ready = *ready_at <= now;
            self.ready += u32::from(is_ready);
            !is_ready
        });
        while self.ready + u32::try_from(self.coming.len()).expect("few") < wanted {
            self.coming.push(now + LOAD_SECONDS);
        }
        self.ready = self.ready.min(wanted);
        self.arrivals += rate * (0.5 + self.chance());
        while self.arrivals >= 1.0 {
            self.arrivals -= 1.0;
            self.waiting += 1;
        }
        let slots = (self.ready * SLOTS) as usize;
        while self.running.len() < slots && self.waiting > 0 {
            self.waiting -= 1;
            let length = TOKENS * (0.5 + self.chance());
            self.running.push(length);
        }
        let each = SPEED * f64::from(self.ready) / (self.running.len().max(1) as f64);
        // One sequence alone cannot use a whole agent.
        let each = each.min(SPEED / 4.0);
        let done: f64 = self.running.iter().map(|left| left.min(each)).sum();
        self.done = done as u32;
        for left in &mut self.running {
            *left -= each;
        }
        self.running.retain(|left| *left > 0.0);
    }

    fn signals(&self) -> Signals {
        let running = u32::try_from(self.running.len()).expect("few");
        let share = |all: u32, n: u32| all / self.ready + u32::from(n < all % self.ready);
        let mut signals = Signals::default();
        for n in 0..self.ready {
            let load = AgentLoad {
                running: share(running, n),
                waiting: share(self.waiting, n),
                cache_used: share(running, n),
                cache_total: SLOTS,
                tokens_per_second: self.done / self.ready,
            };
            signals.agents.insert(AgentId::new(format!("agent-{n}")), AgentSignal::Ready(load));
        }
        for n in 0..self.coming.len() {
            signals.agents.insert(AgentId::new(format!("coming-{n}")), AgentSignal::Coming);
        }
        let router = RouterLoad { in_flight: running + self.waiting, ..RouterLoad::default() };
        signals.routers.insert("router".to_owned(), RouterSignal::Heard(router));
        signals
    }
}

/// Runs the plant and returns every number of agents that was wanted, in order, without repetition.
fn life(seed: u64, start: u32, rates: &[(u64, f64)]) -> Vec<u32> {
    let mut world = World::new(start, (1, 8));
    let mut plant = Plant::new(seed, start);
    let mut wanted = vec![start];
    for (seconds, rate) in rates {
        for _ in 0..*seconds {
            let scaled = world.step(1, &plant.signals());
            if wanted.last() != Some(&scaled.agents) {
                wanted.push(scaled.agents);
            }
            plant.second(world.now / SECOND, scaled.agents, *rate);
        }
    }
    wanted
}

fn turns(numbers: &[u32]) -> usize {
    let ups: Vec<bool> = numbers.windows(2).map(|pair| pair[1] > pair[0]).collect();
    ups.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// A step of the load to three times as much and back changes the direction once.
#[test]
fn a_step_of_load_turns_once() {
    for seed in 0..40 {
        let wanted = life(seed, 1, &[(300, 0.7), (1_800, 4.0), (1_800, 0.4)]);
        assert!(turns(&wanted) <= 1, "seed {seed}: {wanted:?}");
        assert!(wanted.iter().max() >= Some(&3), "seed {seed}: {wanted:?}");
        assert!(wanted.last() <= Some(&2), "seed {seed}: {wanted:?}");
    }
}

/// Constant load with noise settles, wherever it begins. A pool that begins far too large goes one step too far once,
/// for until then nobody has seen what one agent can do.
#[test]
fn constant_load_does_not_flap() {
    for seed in 0..40 {
        for (start, rate) in [(1, 1.0), (1, 3.0), (4, 1.0), (2, 2.0), (8, 3.0)] {
            let wanted = life(seed, start, &[(7_200, rate)]);
            let allowed = if start == 8 { 2 } else { 1 };
            let told = format!("seed {seed}, {start} agents, rate {rate}: {wanted:?}");
            assert!(turns(&wanted) <= allowed && wanted.len() <= 8, "{told}");
        }
    }
}
