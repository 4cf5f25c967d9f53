//! The node agent: the daemon that owns one machine's share of one model.
//!
//! Sockets, clocks, threads and files around `engine`. What to compute is decided there and in `model`; what to hold
//! is decided by the plan's assignment. Knows nothing of plans, Kubernetes or HTTP.
//!
//! ```text
//! Agent/Assign ──► registry ──► loader ──► driver (engine thread) ⇄ links ⇄ peers
//! Generation/Generate ──► prompt ──► driver ──► token events
//! Exchange/Run ◄── peers ──► workers (expert threads)
//! ```

mod agent_service;
mod arguments;
mod assignment;
mod board;
mod closing;
mod driver;
mod exchange;
mod generation_service;
pub mod limits;
mod loader;
mod model_files;
mod prompt;
mod rate;
mod registry;
mod request;
mod self_test;
mod sequence_stream;
mod serve;
mod serving;
mod store;

pub use arguments::{AgentArguments, AgentConfig};
pub use serve::{AgentError, run, serve};

/// An error and its causes in one line, for statuses and logs.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
