//! The pure planner: specification + inventory + load → plan. Knows no clock, socket, thread or Kubernetes.
//!
//! [`plan`](crate::plan::plan) decides, [`lint`](crate::lint::lint) is a second opinion that shares no code with it.

pub mod identity;
pub mod spec;
pub mod inventory;
pub mod plan;
