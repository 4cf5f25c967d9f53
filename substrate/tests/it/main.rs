//! The reconcile's pure parts; the rest runs in the conformance suite against real processes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod decide;
mod derive;
mod example;
mod facts;
mod lost;
mod lost_plan;
mod rolling;
mod routers;
mod watch;
mod wire;
