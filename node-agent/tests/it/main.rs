//! Real agents on loopback, each on a runtime of its own, with the embedded model.

// clippy spares test functions only, not the functions beside them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod assignments;
mod cluster;
mod credentials;
mod facts;
mod failure;
mod fetching;
mod hostile;
mod hub_server;
mod killed;
mod mtls;
mod peer_calls;
mod probes;
mod process;
mod requests;
mod s3_server;
mod sharding;
