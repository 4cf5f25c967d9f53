//! The pure planner: specification + inventory + load → plan. Knows no clock, socket, thread or Kubernetes.
//!
//! [`plan::plan`] decides, [`lint::lint`] is a second opinion that shares no code with it.

pub mod cost;
pub mod engine;
pub mod identity;
pub mod inventory;
pub mod lint;
mod lint_balance;
pub mod moment;
pub mod place;
pub mod plan;
pub mod prefer;
pub mod render;
pub mod rollout;
pub mod room;
pub mod scale;
pub mod spec;
