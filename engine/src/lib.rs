//! The serving engine as pure state machines: scheduler, KV blocks, step, exchange, sampler.
//!
//! Knows no clock, socket or thread: time is an argument, frames are values. Methods come in four kinds:
//! getters; `handle_*` for what happened outside; mutators for what the application wants; `poll_*` for what the
//! caller must do next.

pub mod blocks;
pub mod engine;
pub mod exchange;
pub mod logprobs;
pub mod output;
mod prefix;
pub mod random;
pub mod request;
pub mod sampler;
pub mod scheduler;
mod sequence;
pub mod speculation;
mod step;
pub mod stop;
