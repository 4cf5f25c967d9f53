//! What was decided, and why, as types; text is made from them at the edge.

use super::ScaleMemory;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The numbers that there should be from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    pub agents: u32,
    pub routers: u32,
    /// For the next decision.
    pub memory: ScaleMemory,
    /// Empty when both numbers stay.
    pub changes: Vec<ScaleChange>,
}

/// One number that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleChange {
    pub what: Scalable,
    pub from: u32,
    pub to: u32,
    pub why: Why,
}

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scalable {
    Agents,
    Routers,
}

/// Why a number changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Why {
    #[error("the range is {min} to {max}")]
    Range { min: u32, max: u32 },
    #[error("{floor} agents are the fewest that hold the model and its copies")]
    Floor { floor: u32 },
    #[error("{held} requests wait for an agent")]
    Awakened { held: u32 },
    #[error("no request came for {seconds} s")]
    Asleep { seconds: u64 },
    #[error("{waiting} sequences wait and {running} run")]
    Queue { waiting: u32, running: u32 },
    #[error("{percent} % of the KV cache is in use")]
    Cache { percent: u32 },
    #[error("{running} sequences run on agents that run {capacity} at once")]
    Sequences { running: u32, capacity: u32 },
    #[error(
        "the first token takes {p90_ms} ms for one request in ten, the objective is {objective_ms} ms"
    )]
    FirstTokenLate { p90_ms: u64, objective_ms: u64 },
    #[error("a token takes {p90_ms} ms for one request in ten, the objective is {objective_ms} ms")]
    OutputTokenLate { p90_ms: u64, objective_ms: u64 },
    #[error("{in_flight} requests are in flight")]
    InFlight { in_flight: u32 },
    #[error("for {seconds} s fewer would have been enough")]
    Ample { seconds: u64 },
}

impl fmt::Display for ScaleChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, from, to, why } = self;
        let what = match what {
            Scalable::Agents => "agents",
            Scalable::Routers => "routers",
        };
        write!(formatter, "{what} {from} → {to}: {why}")
    }
}
