//! Tests of the operator.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect")]

mod chart;
mod deployment_metrics;
mod prices;
mod render;
