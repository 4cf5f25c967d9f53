//! Property tests of everything that reads bytes from a peer.

// clippy spares test functions only, not the functions beside them.
#![allow(clippy::unwrap_used)]

mod frames;
mod messages;
