//! Property tests of everything that reads bytes from a peer, and tests of mutual TLS.

// clippy spares test functions only, not the functions beside them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod frames;
mod messages;
mod tls;
