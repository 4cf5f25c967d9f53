//! What a scenario is. Scenarios speak kubectl, helm, HTTP and metrics, and nothing that a user could not.

mod deployment;
mod evidence;
pub mod operator;
mod runner;
mod scene;

pub use deployment::{Component, Deployment, Pod, condition, name_of};
pub use operator::{Images, SYSTEM};
pub use runner::{Choice, Outcome, run};
pub use scene::{Power, Scene};

use anyhow::Result;
use futures::future::LocalBoxFuture;

/// One thing that may happen to a deployment.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// One sentence: what happens, and what is demanded.
    pub summary: &'static str,
    pub needs: Needs,
    pub length: Length,
    pub play: for<'a> fn(&'a Scene) -> LocalBoxFuture<'a, Result<()>>,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a scenario must be able to do beside speaking to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// Power and cables of the nodes, or processes on them.
    Machines,
}

/// Whether CI runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// CI does: all of these together take less than a quarter of an hour on two cores.
    Short,
    Long,
}
