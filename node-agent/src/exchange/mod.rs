//! The exchange's sockets: our calls to peers, and theirs to us.

mod link;
mod links;
mod peer_calls;
mod server;
mod wire;
mod workers;

pub use links::Links;
pub use peer_calls::PeerCalls;
pub use server::{ExchangeService, Resident};
pub use wire::Hello;
pub use workers::Workers;
