//! One reconcile for every substrate: observe → plan → lint → apply → status.
//!
//! [`Reconciler`] is the driver; each verb is a module of its name. `plan` and `lint` are the pure planner's
//! ([`decide`]); [`Substrate`] is what differs between Kubernetes and processes on one machine. This crate knows
//! agents and routers by their gRPC interface only, never a pod or a process.

pub mod apply;
pub mod assign;
pub mod conformance;
pub mod decide;
pub mod derive;
mod dial;
mod drain;
pub mod facts;
pub mod lost;
mod numbers;
pub mod reason;
pub mod reconcile;
pub mod report;
pub mod rolling;
pub mod routers;
pub mod signals;
pub mod status;
mod substrate;
pub mod watch;

pub use dial::{CONNECT_TIMEOUT, Dialer};
pub use reconcile::{ReconcileError, Reconciler};
pub use routers::RouterDuty;
pub use status::{DeploymentStatus, Phase};
pub use substrate::{Instance, Observed, Substrate, Wanted};
