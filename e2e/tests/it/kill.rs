//! Agents are killed with streams running, and no client sees it.

use anyhow::{Context, Result, ensure};
use e2e::client::{Answer, Client, Progress, Sampling};
use e2e::deployment::{Deployment, Shape};
use e2e::{Thoroughness, evaluation, processes, thoroughness, waiting};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Streams that run when an agent is killed; half of them greedy, half sampled with a seed.
const STREAMS: usize = 16;

/// For streams to get as far as the moment of the kill.
const MOMENT_DEADLINE: Duration = Duration::from_secs(60);

/// Where in the work, in percent of all deltas, agents are killed. One moment for each kill, over and over.
const MOMENTS: &[usize] = &[35, 5, 60, 20, 75, 1, 50, 85, 12];

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_the_loss_of_any_agent() -> Result<()> {
    let rounds = if thoroughness() == Thoroughness::Full { 3 } else { 1 };
    survive(Shape { agents: 3, copies: 2 }, rounds).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_wait_for_the_reload_of_a_single_copy() -> Result<()> {
    survive(Shape { agents: 3, copies: 1 }, 1).await
}

async fn survive(shape: Shape, rounds: usize) -> Result<()> {
    let mut deployment = Deployment::start(shape).await?;
    let client = deployment.client();
    let asked = questions()?;
    let progress = Progress::default();
    let expected = client.ask_all(&asked, STREAMS, &progress).await?;
    let deltas = progress.load(Ordering::Relaxed);
    let agents: Vec<String> = deployment.status()?.pids().into_keys().collect();
    ensure!(agents.len() == shape.agents, "agents: {agents:?}");
    let victims = (0..rounds).flat_map(|_| &agents);
    for (agent, percent) in victims.zip(MOMENTS.iter().cycle()) {
        let moment = deltas * percent / 100;
        println!("killing {agent} after {moment} of {deltas} deltas");
        let pid = *deployment.status()?.pids().get(agent).context("the agent is gone")?;
        let found = answers_with_kill(&client, &asked, pid, moment).await?;
        for ((question, expected), found) in asked.iter().zip(&expected).zip(&found) {
            ensure!(expected == found, "{question:?}\nexpected {expected:?}\nfound    {found:?}");
        }
        let replaced = format!("{agent} replaced and every copy back");
        deployment
            .until(&replaced, |s| {
                s.is_whole() && s.pids().get(agent).is_some_and(|&new| new != pid)
            })
            .await?;
    }
    let resumes = client.metric("boyle_router_resumes_total").await?;
    println!("{resumes} streams went on elsewhere");
    ensure!(resumes > 0.0, "no stream was on a killed agent: the kills proved nothing");
    Ok(())
}

fn questions() -> Result<Vec<(String, Sampling)>> {
    let longest = evaluation::longest(STREAMS)?.into_iter().zip(1..);
    let asked = longest.map(|(question, seed)| {
        let sampling = if seed % 2 == 0 { Sampling::Greedy } else { Sampling::Seeded { seed } };
        (question.question, sampling)
    });
    Ok(asked.collect())
}

/// All answers to `asked`; `pid` is killed when `moment` deltas have come.
async fn answers_with_kill(
    client: &Client,
    asked: &[(String, Sampling)],
    pid: u32,
    moment: usize,
) -> Result<Vec<Answer>> {
    let progress = Progress::default();
    let answering = client.ask_all(asked, STREAMS, &progress);
    let killing = async {
        let reached = async || {
            let deltas = progress.load(Ordering::Relaxed);
            ensure!(deltas >= moment, "{deltas} deltas");
            Ok(())
        };
        waiting::until(&format!("{moment} deltas"), MOMENT_DEADLINE, reached).await?;
        processes::kill(pid)?;
        Ok::<_, anyhow::Error>(progress.load(Ordering::Relaxed))
    };
    let (answers, killed) = tokio::join!(answering, killing);
    let (answers, at_kill) = (answers?, killed?);
    let deltas = progress.load(Ordering::Relaxed);
    ensure!(at_kill < deltas, "every stream had ended before the kill; {at_kill} deltas");
    Ok(answers)
}
