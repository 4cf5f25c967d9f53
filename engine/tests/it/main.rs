//! Black-box tests of the engine: a toy model whose answers depend on every cached position, and real checkpoints.

mod batching;
mod generation;
mod harness;
mod replay;
mod sampling;
mod scheduling;
mod stopping;
mod toy;
