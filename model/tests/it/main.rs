//! Integration tests of the crate, in one binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect")]

mod checkpoint;
mod config;
mod hostile;
mod oracle;
mod random;
mod template;
mod tokenizer;
