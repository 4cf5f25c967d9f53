//! Black-box tests of the engine: a toy model whose answers depend on every cached position, and real checkpoints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect")]

mod batching;
mod checkpoints;
mod drafting;
mod exchange;
mod generation;
mod harness;
mod prefix;
mod replay;
mod sampling;
mod scheduling;
mod simulation;
mod stopping;
mod toy;
mod toy_draft;
