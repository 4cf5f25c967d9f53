//! The operator against a real API server with pods that are processes; what it draws; its chart.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect")]

mod certificates;
mod chart;
mod deployment_metrics;
mod election;
mod faults;
mod installation;
mod life;
mod lives;
mod prices;
mod render;
mod situations;
mod support;
mod two_operators;
