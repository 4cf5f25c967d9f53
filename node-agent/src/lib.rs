//! The node agent: the daemon that owns one machine's share of one model.
//!
//! Sockets, clocks, threads and files around `engine`. What to compute is decided there and in `model`; what to hold
//! is decided by the plan's assignment. Knows nothing of plans or Kubernetes; HTTP is for probes only.
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
mod checkpoint_files;
mod closing;
mod driver;
pub mod embedded;
mod engine_watch;
mod exchange;
mod expert_files;
mod facts;
mod fetch;
pub mod fingerprint;
mod generation_service;
mod librarian;
mod library;
pub mod limits;
mod loader;
mod memory;
mod metrics;
mod model_files;
mod peers;
pub mod pool;
mod probes;
mod prompt;
mod rate;
mod registry;
mod request;
mod secret;
mod self_test;
mod sequence_stream;
mod serve;
mod serving;
mod shutdown;
mod sources;
mod store;

pub use arguments::{AgentArguments, AgentConfig, ModelArguments, SecurityArguments};
pub use fetch::Space;
pub use secret::Secret;
pub use serve::{AgentError, Listeners, run, serve};

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
