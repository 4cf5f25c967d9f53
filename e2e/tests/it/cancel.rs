//! A client that goes away stops the work it asked for.

use anyhow::{Result, bail, ensure};
use e2e::client::Progress;
use e2e::deployment::{Deployment, Shape};
use e2e::waiting;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Enough work to tell a cancelled batch from one that ran to its end.
const STREAMS: usize = 32;

/// Well below what the whole batch takes.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn disconnecting_cancels_the_work() -> Result<()> {
    let deployment = Deployment::start(Shape { agents: 2, copies: 2 }).await?;
    let client = deployment.client();
    let progress = Progress::default();
    let started = Instant::now();
    {
        let endless = client.endless(STREAMS, &progress);
        let begun = waiting::until("the first deltas", CANCEL_DEADLINE, async || {
            ensure!(progress.load(Ordering::Relaxed) >= STREAMS, "{progress:?}");
            Ok(())
        });
        tokio::select! {
            ended = endless => bail!("streams ended before they were cancelled: {ended:?}"),
            begun = begun => begun?,
        }
    }
    println!("disconnected after {:.2} s", started.elapsed().as_secs_f64());
    waiting::until("idle agents", CANCEL_DEADLINE, async || {
        let in_flight = client.metric("boyle_router_requests_in_flight").await?;
        let running: usize =
            deployment.status()?.agent_details.iter().map(|a| a.sequences_running).sum();
        ensure!(in_flight == 0.0 && running == 0, "{in_flight} requests, {running} sequences");
        Ok(())
    })
    .await?;
    let generated = client.metric("boyle_router_generation_tokens_total").await?;
    let whole = client.endless_tokens(STREAMS) as f64;
    println!("{generated} of {whole} tokens were generated");
    ensure!(generated < whole * 0.9, "the work went on to its end");
    Ok(())
}
