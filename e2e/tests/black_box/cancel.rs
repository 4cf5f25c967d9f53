//! A client that goes away stops the work it asked for.

use anyhow::{Result, bail, ensure};
use e2e::client::Progress;
use e2e::deployment::{Deployment, Shape};
use e2e::waiting;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Enough work to tell a cancelled batch from one that ran to its end.
const STREAMS: usize = 64;

/// For the first deltas of all streams.
const BEGIN_DEADLINE: Duration = Duration::from_secs(30);

/// For agents to be seen idle, however quick the whole batch would have been: statuses are a second old at most.
const IDLE_DEADLINE_MIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn disconnecting_cancels_the_work() -> Result<()> {
    let deployment = Deployment::start(Shape { agents: 2, copies: 2 }).await?;
    let client = deployment.client();
    let started = Instant::now();
    client.endless(STREAMS, &Progress::default()).await?;
    let whole = started.elapsed();
    println!("the whole batch takes {:.2} s", whole.as_secs_f64());
    let progress = Progress::default();
    // Seen in the status too: one from before the batch would look as idle as one from after it.
    let begun = waiting::until("running sequences", BEGIN_DEADLINE, async || {
        let left = sequences(&deployment)?;
        ensure!(
            progress.load(Ordering::Relaxed) >= STREAMS && left > 0,
            "{progress:?}, {left} sequences"
        );
        Ok(())
    });
    tokio::select! {
        ended = client.endless(STREAMS, &progress) => bail!("streams ended before they were cancelled: {ended:?}"),
        begun = begun => begun?,
    }
    let disconnected = Instant::now();
    waiting::until("idle agents", (whole / 2).max(IDLE_DEADLINE_MIN), async || {
        let in_flight = client.metric("boyle_router_requests_in_flight").await?;
        let left = sequences(&deployment)?;
        ensure!(in_flight == 0.0 && left == 0, "{in_flight} requests, {left} sequences");
        Ok(())
    })
    .await?;
    println!("idle after {:.2} s", disconnected.elapsed().as_secs_f64());
    Ok(())
}

/// Sequences that agents run or have waiting.
fn sequences(deployment: &Deployment) -> Result<usize> {
    let agents = deployment.status()?.agent_details;
    Ok(agents.iter().map(|agent| agent.sequences_running + agent.sequences_waiting).sum())
}
