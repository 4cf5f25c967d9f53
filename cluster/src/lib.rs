//! A real Kubernetes on one machine, without Docker: for tests, and for trying Boyle out.
//!
//! Two ways to have one:
//! - [`ControlPlane::start`]: etcd, API server, controller manager and scheduler on this machine's loopback, for tests of
//!   controllers. No root, no nodes; it ends with its owner.
//! - [`Cluster`]: the same with nodes that run containers. Each machine of it, the control plane's too, is a set of
//!   namespaces with a process 1 of its own.
//!
//! The programs are built once from pinned Go modules ([`tools`]). Nothing here knows what Boyle is.

#![cfg(target_os = "linux")]

mod boot;
mod cgroups;
mod cluster;
mod control_plane;
mod credentials;
mod folder;
pub mod image;
mod machine;
mod marks;
mod network;
mod node;
mod operate;
pub mod packages;
mod process;
mod service;
mod time;
pub mod tools;
mod wait;

pub use cluster::{Cluster, Error, Options, Summary};
pub use control_plane::{ControlPlane, Error as ControlPlaneError};
pub use folder::{Error as FolderError, Name};
