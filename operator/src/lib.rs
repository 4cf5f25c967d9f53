//! The Kubernetes operator: ModelDeployment → objects of the cluster → agents and routers that hold a plan.
//!
//! `run` wires it together: `leader` says who acts, `watch` keeps what the cluster shows, `controller` gives each
//! deployment a task. `driver` is that task on one screen; `validate`, `fleet` with `kubernetes`, and `status` are its
//! verbs. `render` draws objects, `apply` writes them, and only what differs.

pub mod api;
pub mod apply;
pub mod certificates;
pub mod check;
mod context;
mod controller;
pub mod deployment_metrics;
mod driver;
pub mod error;
mod events;
pub mod fence;
mod fleet;
mod goal;
mod groups;
mod health;
mod identity;
pub mod key;
mod kubernetes;
pub mod leader;
pub mod metrics;
pub mod monitoring;
pub mod prices;
pub mod rbac;
pub mod render;
pub mod run;
pub mod settings;
mod status;
mod troubles;
mod validate;
pub mod watch;
