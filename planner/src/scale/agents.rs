//! Agents: by queue, KV cache, sequences and latency of those that are ready.

use super::why::{Scalable, ScaleChange, Why};
use super::{
    AgentLoad, AgentSignal, Capacity, RouterLoad, RouterSignal, ScaleInput, ScaleMemory, Track,
};
use crate::spec::ReplicaRange;
use std::time::Duration;

/// A peak that is shorter than this is no reason to load a model.
const SHORT_DELAY: Duration = Duration::from_secs(5);
/// Instant signals need this long after an agent became ready: the router spreads over it from its first status on.
const SETTLE: Duration = Duration::from_secs(5);
/// Part of the KV cache, and of the sequences at once, that may be in use: beyond it, prefixes are evicted and
/// sequences preempted.
const FULL_PERCENT: u64 = 85;
/// A smaller pool is enough when it would be filled and as late as this, in percent of what makes the pool grow. The
/// gap to 100 is what noise may move without an effect.
const AMPLE_PERCENT: u64 = 70;
/// The pool at most doubles in one decision: latencies far above the objective say that it is short, not how far.
const GROWTH_PERCENT_MAX: u64 = 200;
/// Part of what an agent is known to do at most that it is asked to do in a smaller pool.
const CAPACITY_PERCENT: u64 = 80;
/// What an agent was once seen to do at most is tried again after this: other requests may need less of it.
const CAPACITY_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// Waiting sequences on each agent that are no queue: they are admitted with the next step.
const WAITING_FREE: u32 = 1;

/// The pool's load, summed.
struct Pool {
    ready: u32,
    coming: u32,
    missing: u32,
    running: u32,
    waiting: u32,
    cache_used: u64,
    cache_total: u64,
    tokens_per_second: u64,
}

/// What routers say together.
struct Front {
    /// Routers that were heard and that were not.
    heard: u32,
    missing: u32,
    in_flight: u32,
    held: u32,
    window: Duration,
    first_token_p90: Option<Duration>,
    output_token_p90: Option<Duration>,
    idle: Duration,
}

/// How full the pool is, in percent of what makes it grow, by its fullest measure.
struct Pressure {
    percent: u64,
    why: Why,
}

pub(super) fn decide(input: &ScaleInput<'_>, memory: &mut ScaleMemory) -> Option<ScaleChange> {
    let (pool, front) = (Pool::new(input), Front::new(input));
    if pool.coming > 0 {
        memory.coming_at = Some(input.now);
    }
    let (to, why) = bounds(input, memory.agents.wanted, &front)
        .or_else(|| asleep(input, memory.agents.wanted, &pool, &front))
        .or_else(|| by_load(input, memory, &pool, &front))?;
    let from = memory.agents.wanted;
    memory.agents = Track { wanted: to, ..Track::default() };
    Some(ScaleChange { what: Scalable::Agents, from, to, why })
}

/// Numbers below which an awake pool does not go.
fn awake(input: &ScaleInput<'_>) -> ReplicaRange {
    let ReplicaRange { min, max } = input.agents;
    ReplicaRange { min: min.max(input.floor).max(1).min(max), max }
}

/// What must change whatever the load is.
fn bounds(input: &ScaleInput<'_>, wanted: u32, front: &Front) -> Option<(u32, Why)> {
    let ReplicaRange { min, max } = input.agents;
    if wanted == 0 && min == 0 {
        let held = front.held;
        return (held > 0 && max > 0).then(|| (awake(input).min, Why::Awakened { held }));
    }
    let inside = input.agents.clamp(wanted);
    if inside != wanted {
        return Some((awake(input).clamp(wanted), Why::Range { min, max }));
    }
    let least = awake(input).min;
    (wanted < least).then_some((least, Why::Floor { floor: input.floor }))
}

/// Nobody has asked for anything for long, and everybody says so.
fn asleep(input: &ScaleInput<'_>, wanted: u32, pool: &Pool, front: &Front) -> Option<(u32, Why)> {
    let quiet = pool.running + pool.waiting + front.in_flight + front.held == 0;
    let certain = pool.missing == 0 && front.missing == 0 && front.heard > 0;
    let due = front.idle >= input.scaling.sleep_after;
    let sleeps = input.agents.min == 0 && wanted > 0 && quiet && certain && due;
    let seconds = front.idle.as_secs();
    sleeps.then_some((0, Why::Asleep { seconds }))
}

fn by_load(
    input: &ScaleInput<'_>,
    memory: &mut ScaleMemory,
    pool: &Pool,
    front: &Front,
) -> Option<(u32, Why)> {
    let now = input.now;
    let since_coming = memory.coming_at.map(|at| now.since(at));
    memory.capacity = memory.capacity.filter(|it| now.since(it.at) < CAPACITY_LIFE);
    let capacity = &mut memory.capacity;
    let track = &mut memory.agents;
    // Nothing is known of a pool without a ready agent; one that grows is judged when it has grown.
    if pool.ready == 0 || pool.coming > 0 || since_coming.is_some_and(|passed| passed < SETTLE) {
        (track.short_since, track.ample_since) = (None, None);
        return None;
    }
    // Latencies of a window that began before the newest agent was ready are those of the smaller pool.
    let fresh = since_coming.is_none_or(|passed| passed >= front.window + SETTLE);
    let range = awake(input);
    let late = if fresh { latency(input, pool, front) } else { None };
    let pressure = pressure(input, pool, front, late);
    let more = range.clamp(enough(pool.ready, &pressure));
    if pressure.percent > 100 && more > track.wanted {
        track.ample_since = None;
        let waiting = pool.waiting.saturating_add(front.held);
        if track.short_since.is_none() || waiting < track.short_with {
            (track.short_since, track.short_with) = (Some(now), waiting);
        }
        if track.short_since.is_none_or(|since| now.since(since) < SHORT_DELAY) {
            return None;
        }
        let tokens_per_second = narrow(pool.tokens_per_second / u64::from(pool.ready));
        *capacity = (tokens_per_second > 0).then_some(Capacity { tokens_per_second, at: now });
        return Some((more, pressure.why));
    }
    track.short_since = None;
    let certain = pool.missing == 0 && front.missing == 0 && front.heard > 0;
    let steady = certain && fresh && input.signals.leaving == 0 && pool.ready >= track.wanted;
    let needed = match steady {
        true => smallest(pool.ready, &pressure).max(by_capacity(pool, capacity)),
        false => track.wanted,
    };
    let (to, ample) = track.ample_for(now, range.clamp(needed))?;
    let due = ample >= input.scaling.scale_down_delay && to < track.wanted;
    due.then_some((to, Why::Ample { seconds: ample.as_secs() }))
}

/// Agents that would bring the pressure down to 100 %.
fn enough(ready: u32, pressure: &Pressure) -> u32 {
    let percent = pressure.percent.min(GROWTH_PERCENT_MAX);
    narrow((u64::from(ready) * percent).div_ceil(100))
}

/// The smallest pool that would hold the load with room to spare: with fewer agents each has more to do. At most half of
/// them go at once, for what the rest can do is known only when it is seen.
fn smallest(ready: u32, pressure: &Pressure) -> u32 {
    let enough = u64::from(ready).saturating_mul(pressure.percent).div_ceil(AMPLE_PERCENT);
    narrow(enough).max(ready.div_ceil(2))
}

/// Agents that do what is done now, by what one was seen to do at most. One that does more has shown that it can.
fn by_capacity(pool: &Pool, capacity: &mut Option<Capacity>) -> u32 {
    let Some(known) = capacity else { return 0 };
    let each = narrow(pool.tokens_per_second / u64::from(pool.ready.max(1)));
    known.tokens_per_second = known.tokens_per_second.max(each);
    let usable = u64::from(known.tokens_per_second).saturating_mul(CAPACITY_PERCENT);
    narrow(pool.tokens_per_second.saturating_mul(100).div_ceil(usable.max(1)))
}

fn pressure(
    input: &ScaleInput<'_>,
    pool: &Pool,
    front: &Front,
    late: Option<Pressure>,
) -> Pressure {
    let mut worst = cache(pool);
    let mut consider = |other: Option<Pressure>| {
        if let Some(other) = other.filter(|other| other.percent > worst.percent) {
            worst = other;
        }
    };
    consider(sequences(input, pool));
    consider(queue(pool, front));
    consider(late);
    worst
}

fn cache(pool: &Pool) -> Pressure {
    let used = percent_of(pool.cache_used, pool.cache_total);
    Pressure { percent: used * 100 / FULL_PERCENT, why: Why::Cache { percent: narrow(used) } }
}

fn sequences(input: &ScaleInput<'_>, pool: &Pool) -> Option<Pressure> {
    let capacity = pool.ready.saturating_mul(input.sequences_max);
    if capacity == 0 {
        return None;
    }
    let full = percent_of(u64::from(pool.running), u64::from(capacity));
    let why = Why::Sequences { running: pool.running, capacity };
    Some(Pressure { percent: full * 100 / FULL_PERCENT, why })
}

/// A queue means that the agents run what they can; as many more are missing as wait.
fn queue(pool: &Pool, front: &Front) -> Option<Pressure> {
    let waiting = pool.waiting.saturating_add(front.held);
    if waiting <= pool.ready.saturating_mul(WAITING_FREE) {
        return None;
    }
    let running = pool.running.max(1);
    let all = u64::from(running) + u64::from(waiting);
    // Even a short queue on busy agents asks for one more.
    let percent = percent_of(all, u64::from(running)).max(101);
    Some(Pressure { percent, why: Why::Queue { waiting, running: pool.running } })
}

/// Lateness counts as far as sharing is its cause: an agent for each sequence is the most that can help.
fn latency(input: &ScaleInput<'_>, pool: &Pool, front: &Front) -> Option<Pressure> {
    let sequences = u64::from(pool.running) + u64::from(pool.waiting) + u64::from(front.held);
    let shared = percent_of(sequences, u64::from(pool.ready));
    let objectives = input.scaling;
    let late = |p90: Option<Duration>, objective: Duration| {
        let (p90, objective) = (milliseconds(p90?), milliseconds(objective).max(1));
        Some((percent_of(p90, objective).min(shared), p90, objective))
    };
    let first = late(front.first_token_p90, objectives.time_to_first_token).map(
        |(percent, p90_ms, objective_ms)| Pressure {
            percent,
            why: Why::FirstTokenLate { p90_ms, objective_ms },
        },
    );
    let output = late(front.output_token_p90, objectives.time_per_output_token).map(
        |(percent, p90_ms, objective_ms)| Pressure {
            percent,
            why: Why::OutputTokenLate { p90_ms, objective_ms },
        },
    );
    match (first, output) {
        (Some(first), Some(output)) if output.percent > first.percent => Some(output),
        (first, output) => first.or(output),
    }
}

impl Pool {
    fn new(input: &ScaleInput<'_>) -> Self {
        let mut pool = Self {
            ready: 0,
            coming: 0,
            missing: 0,
            running: 0,
            waiting: 0,
            cache_used: 0,
            cache_total: 0,
            tokens_per_second: 0,
        };
        for signal in input.signals.agents.values() {
            match signal {
                AgentSignal::Ready(load) => pool.add(load),
                AgentSignal::Coming => pool.coming += 1,
                AgentSignal::Missing => pool.missing += 1,
                AgentSignal::Failed => {}
            }
        }
        pool
    }

    fn add(&mut self, load: &AgentLoad) {
        self.ready += 1;
        self.running = self.running.saturating_add(load.running);
        self.waiting = self.waiting.saturating_add(load.waiting);
        self.cache_used += u64::from(load.cache_used);
        self.cache_total += u64::from(load.cache_total);
        self.tokens_per_second += u64::from(load.tokens_per_second);
    }
}

impl Front {
    fn new(input: &ScaleInput<'_>) -> Self {
        let mut front = Self {
            heard: 0,
            missing: 0,
            in_flight: 0,
            held: 0,
            window: Duration::ZERO,
            first_token_p90: None,
            output_token_p90: None,
            idle: Duration::MAX,
        };
        for signal in input.signals.routers.values() {
            match signal {
                RouterSignal::Heard(load) => front.add(load),
                RouterSignal::Missing => front.missing += 1,
            }
        }
        front
    }

    /// The slowest router counts: its clients wait, whatever others see.
    fn add(&mut self, load: &RouterLoad) {
        self.heard += 1;
        self.in_flight = self.in_flight.saturating_add(load.in_flight);
        self.held = self.held.saturating_add(load.held);
        self.window = self.window.max(load.window);
        self.first_token_p90 = self.first_token_p90.max(load.first_token_p90);
        self.output_token_p90 = self.output_token_p90.max(load.output_token_p90);
        self.idle = self.idle.min(load.idle);
    }
}

/// 0 of 0 is nothing.
fn percent_of(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
