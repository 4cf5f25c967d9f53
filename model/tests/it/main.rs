//! Integration tests of the crate, in one binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect")]

mod checkpoint;
mod config;
mod draft;
mod gate;
mod hostile;
mod invariance;
mod kernels;
mod oracle;
mod random;
mod run;
mod runner;
mod template;
mod threads;
mod tokenizer;
