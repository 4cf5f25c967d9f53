//! The router: OpenAI's HTTP API in front of Boyle's agents.
//!
//! A request's way: `http` takes it in, `parse` makes it valid, `generation` runs each of its choices on a home (`link`)
//! and goes on elsewhere when one is lost, `assemble` splits reasoning from content, `answer` sends it as one object or
//! as a stream (`chat`, `completions`, `sse`). `homes` and `watching` know which agents can take a sequence; `control`
//! is told them and answers with what `metrics` and `window` counted. `connections` bounds what clients may hold. `errors` is the only place that knows
//! status codes of failures.
//!
//! It knows nothing of tokenisers, plans or weights.

mod answer;
mod assemble;
mod chat;
mod completions;
mod config;
mod connections;
mod control;
mod errors;
mod generation;
mod homes;
mod http;
mod link;
mod logprobs;
mod metrics;
pub mod parse;
pub mod reasoning;
mod seed;
mod serve;
mod sse;
mod usage;
mod watching;
mod window;

pub use config::{
    BODY_BYTES_MAX, HELD_MAX, Patience, RouterArguments, RouterConfig, SEQUENCES_MAX,
};
pub use serve::{RouterError, run, serve};
