//! Routers: by requests in flight, for a router's work is holding streams.

use super::why::{Scalable, ScaleChange, Why};
use super::{RouterSignal, ScaleInput, ScaleMemory, Track};
use std::time::Duration;

/// Streams that one router holds without adding to their latency, with a wide margin.
const IN_FLIGHT_EACH: u32 = 200;
/// A smaller number must leave this much of it free (in percent of what each takes), so that a little more load does
/// not bring the router back at once.
const HEADROOM_PERCENT: u64 = 70;
/// A peak that is shorter than this needs no router: one starts in about as long.
const SHORT_DELAY: Duration = Duration::from_secs(5);

pub(super) fn decide(input: &ScaleInput<'_>, memory: &mut ScaleMemory) -> Option<ScaleChange> {
    let range = input.routers;
    let track = &mut memory.routers;
    let before = track.wanted;
    let clamped = range.clamp(before);
    if clamped != before {
        *track = Track { wanted: clamped, ..Track::default() };
        let why = Why::Range { min: range.min, max: range.max };
        return Some(change(before, clamped, why));
    }
    let in_flight: u32 = heard(input).fold(0, u32::saturating_add);
    let needed = |each: u64| {
        let needed = (u64::from(in_flight) * 100).div_ceil(u64::from(IN_FLIGHT_EACH) * each);
        range.clamp(u32::try_from(needed).unwrap_or(u32::MAX))
    };
    let (more, fewer) = (needed(100), needed(HEADROOM_PERCENT));
    let missing = input.signals.routers.values().any(|it| matches!(it, RouterSignal::Missing))
        || input.signals.routers.is_empty();
    let now = input.now;
    if more > before {
        track.ample_since = None;
        let since = *track.short_since.get_or_insert(now);
        if now.since(since) < SHORT_DELAY {
            return None;
        }
        *track = Track { wanted: more, ..Track::default() };
        return Some(change(before, more, Why::InFlight { in_flight }));
    }
    track.short_since = None;
    let needed = if missing { before } else { fewer };
    let (to, ample) = track.ample_for(now, needed)?;
    if ample < input.scaling.scale_down_delay {
        return None;
    }
    *track = Track { wanted: to, ..Track::default() };
    Some(change(before, to, Why::Ample { seconds: ample.as_secs() }))
}

fn heard<'a>(input: &'a ScaleInput<'_>) -> impl Iterator<Item = u32> + 'a {
    input.signals.routers.values().filter_map(|signal| match signal {
        RouterSignal::Heard(load) => Some(load.in_flight),
        RouterSignal::Missing => None,
    })
}

fn change(from: u32, to: u32, why: Why) -> ScaleChange {
    ScaleChange { what: Scalable::Routers, from, to, why }
}
