//! The router against scripted agents on loopback, and its pure parts by themselves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions that tests share may fail a test")]

mod admission;
mod agent;
mod answers;
mod connections;
mod control;
mod credentials;
mod draining;
mod errors;
mod fuzz;
mod model_change;
mod mtls;
mod parse;
mod reasoning;
mod resume;
mod silence;
mod world;
