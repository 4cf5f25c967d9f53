//! What every substrate must do, as one suite: start, add, lose, replace, roll out, shrink, sleep, wake, stop.
//!
//! A substrate's own tests call [`check`] with a [`Harness`]; the real agents and router run behind it.

mod suite;

use crate::reconcile::ReconcileError;
use crate::status::{AgentDetail, DeploymentStatus};
use crate::substrate::Substrate;
use planner::spec::Goal;
use std::time::Duration;
use suite::Suite;

/// One wait of the suite. Far above what loading the small model takes, so that only a hang reaches it.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// What the suite needs beside the trait.
pub trait Harness {
    /// The substrate under test.
    type Substrate: Substrate;

    /// A deployment of a small model with routed experts; the suite sets the number of agents itself.
    fn goal(&self) -> Goal;

    /// A substrate for that deployment. A second one finds what the first recorded.
    fn substrate(&self) -> Self::Substrate;

    /// Ends an agent without warning.
    fn kill(&self, victim: &AgentDetail);

    /// Makes an agent hang: it is there and does not answer.
    fn freeze(&self, victim: &AgentDetail);

    /// Changes what agents are started with, so that those that run are outdated.
    fn outdate(&self, substrate: &mut Self::Substrate);

    /// Everything of the deployment that still runs, for people to read.
    fn leftovers(&self) -> Vec<String>;
}

/// A promise that the substrate did not keep.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    #[error("{wait}: not within {} s; the last status was {last:#?}", WAIT_MAX.as_secs())]
    Waited { wait: &'static str, last: Box<DeploymentStatus> },
    #[error("{promise}: {found}")]
    Broken { promise: &'static str, found: String },
    #[error("start the reconciler")]
    Start(#[from] ReconcileError),
    #[error("stop: {0}")]
    Stop(String),
}

/// Runs the suite.
///
/// # Errors
/// The first promise that was not kept.
pub async fn check<H: Harness>(harness: &H) -> Result<(), ConformanceError> {
    let mut suite = Suite::start_with(harness, 2).await?;
    suite.start().await?;
    suite.add(harness).await?;
    suite.lose_and_replace(harness).await?;
    suite.roll_out(harness).await?;
    suite.lose_and_rebuild(harness).await?;
    suite.shrink(harness).await?;
    suite.sleep_and_wake(harness).await?;
    let before = suite.generation()?;
    suite.stop(harness).await?;
    again(harness, before).await
}

/// A later run takes up the recorded plan with a higher number.
async fn again<H: Harness>(harness: &H, before: u64) -> Result<(), ConformanceError> {
    let mut suite = Suite::start_with(harness, 2).await?;
    suite.come_up("two agents in a second run").await?;
    let after = suite.generation()?;
    suite.stop(harness).await?;
    let back = after < before;
    ensure("numbers of plans never go back", back.then(|| format!("{before} → {after}")))
}

/// What was found instead breaks the promise; nothing found keeps it.
fn ensure(promise: &'static str, found: Option<String>) -> Result<(), ConformanceError> {
    match found {
        None => Ok(()),
        Some(found) => broken(promise, found),
    }
}

fn broken<T>(promise: &'static str, found: impl Into<String>) -> Result<T, ConformanceError> {
    Err(ConformanceError::Broken { promise, found: found.into() })
}
