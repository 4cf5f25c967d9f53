//! Token rows to experts and their outputs back, as a state machine: which copy to ask, when to ask the next one.

mod machine;
mod peers;
mod round;

pub use machine::{Exchange, ExchangeTotals};

use model::executor::{ExpertAddress, ExpertCall};
use std::collections::BTreeMap;
use std::time::Duration;

/// Index of a peer in the current placement's list of agents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub String);

/// Who holds which experts, in order of preference. Ourselves are a peer like any other, named `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub generation: u64,
    pub local: PeerId,
    pub copies: BTreeMap<ExpertAddress, Vec<PeerId>>,
}

/// A message the driver must send to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub peer: PeerId,
    pub call_id: u64,
    pub layer: u32,
    pub calls: Vec<ExpertCall>,
    pub row_count: u32,
    /// Distinct rows, `[row_count, row bytes]`.
    pub rows: Vec<u8>,
    /// How long from now on until another copy is asked too; an answer after that is still welcome.
    pub deadline: Duration,
}

/// Why a call to a peer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The connection broke or could not be made.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// The peer does not hold an expert (yet, or any more).
    #[error("expert not resident: {0}")]
    NotResident(String),
    /// The peer's queue is full.
    #[error("overloaded")]
    Overloaded,
    /// The peer refused or garbled the call.
    #[error("refused: {0}")]
    Refused(String),
}
