//! Black-box tests of the engine: a toy model whose answers depend on every cached position, and real checkpoints.

mod generation;
mod harness;
mod toy;
