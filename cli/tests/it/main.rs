//! `boyle` from the outside, and the process substrate behind it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bench;
mod command_line;
mod conformance;
mod crash;
mod lock;
mod processes;
mod unpack;
mod up;
