//! Agents are killed or frozen with streams running, and no client sees it.

use anyhow::{Context, Result, ensure};
use e2e::client::{Answer, Client, Progress, Sampling};
use e2e::deployment::{Deployment, Shape};
use e2e::{Thoroughness, evaluation, processes, thoroughness, waiting};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Streams that run when an agent is lost; half of them greedy, half sampled with a seed.
const STREAMS: usize = 16;

/// For streams to get as far as the moment of the loss.
const MOMENT_DEADLINE: Duration = Duration::from_secs(60);

/// Where in the work, in percent of all text, agents are lost. One moment for each loss, over and over.
const MOMENTS: &[usize] = &[35, 5, 60, 20, 75, 1, 50, 85, 12];

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_the_loss_of_any_agent() -> Result<()> {
    survive(Shape { agents: 3, copies: 2 }, &[&[0], &[1], &[2]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_wait_for_the_reload_of_a_single_copy() -> Result<()> {
    survive(Shape { agents: 3, copies: 1 }, &[&[0], &[1], &[2]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_the_loss_of_several_agents_at_once() -> Result<()> {
    survive(Shape { agents: 3, copies: 2 }, &[&[0, 1], &[0, 1, 2]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_around_a_frozen_agent() -> Result<()> {
    let mut scene = Scene::set(Shape { agents: 3, copies: 2 }).await?;
    let (agent, pid) = scene.pids()?.pop_first().context("no agent")?;
    println!("freezing {agent}");
    scene.check_answers(MOMENTS[0], || processes::freeze(pid)).await?;
    processes::thaw(pid)?;
    scene.deployment.whole().await?;
    // What it still had to say when it woke must not have reached anyone, nor do any harm later.
    scene.check_answers(100, || Ok(())).await
}

/// Loses each group of agents in turn.
async fn survive(shape: Shape, groups: &[&[usize]]) -> Result<()> {
    let rounds = if thoroughness() == Thoroughness::Full { 3 } else { 1 };
    let mut scene = Scene::set(shape).await?;
    let losses = (0..rounds).flat_map(|_| groups);
    for (group, percent) in losses.zip(MOMENTS.iter().cycle()) {
        let agents: Vec<(String, u32)> = scene.pids()?.into_iter().collect();
        let lost: BTreeMap<_, _> =
            group.iter().filter_map(|&index| agents.get(index).cloned()).collect();
        println!("killing {lost:?} after {percent} % of the text");
        scene
            .check_answers(*percent, || lost.values().try_for_each(|&pid| processes::kill(pid)))
            .await?;
        let replaced = |new: &BTreeMap<String, u32>| {
            lost.iter().all(|(agent, old)| new.get(agent).is_some_and(|new| new != old))
        };
        let what = format!("{lost:?} replaced and every copy back");
        scene
            .deployment
            .until(&what, |status| status.is_whole() && replaced(&status.pids()))
            .await?;
    }
    let resumes = scene.client.metric("boyle_router_resumes_total").await?;
    println!("{resumes} streams went on elsewhere");
    ensure!(resumes > 0.0, "no stream was on a lost agent: the losses proved nothing");
    Ok(())
}

/// A deployment, what it is asked, and what it answers when nothing happens.
struct Scene {
    deployment: Deployment,
    client: Client,
    asked: Vec<(String, Sampling)>,
    expected: Vec<Answer>,
    /// Bytes of all those answers together.
    bytes: usize,
}

impl Scene {
    async fn set(shape: Shape) -> Result<Self> {
        let deployment = Deployment::start(shape).await?;
        let (client, asked, progress) = (deployment.client(), questions()?, Progress::default());
        let expected = client.ask_all(&asked, STREAMS, &progress).await?;
        ensure!(expected.len() == STREAMS, "{} answers", expected.len());
        let bytes = progress.load(Ordering::Relaxed);
        Ok(Self { deployment, client, asked, expected, bytes })
    }

    fn pids(&self) -> Result<BTreeMap<String, u32>> {
        Ok(self.deployment.status()?.pids())
    }

    /// Asks everything again, does `harm` after `percent` of the text, and compares the answers.
    async fn check_answers(&self, percent: usize, harm: impl FnOnce() -> Result<()>) -> Result<()> {
        let progress = Progress::default();
        let moment = self.bytes * percent / 100;
        let answering = self.client.ask_all(&self.asked, STREAMS, &progress);
        let harming = async {
            let reached = async || {
                let bytes = progress.load(Ordering::Relaxed);
                ensure!(bytes >= moment, "{bytes} bytes of text");
                Ok(())
            };
            waiting::until(&format!("{moment} bytes of text"), MOMENT_DEADLINE, reached).await?;
            harm()?;
            Ok::<_, anyhow::Error>(progress.load(Ordering::Relaxed))
        };
        let (answers, at_harm) = tokio::join!(answering, harming);
        let (answers, at_harm) = (answers?, at_harm?);
        for ((question, expected), found) in self.asked.iter().zip(&self.expected).zip(&answers) {
            ensure!(expected == found, "{question:?}\nexpected {expected:?}\nfound    {found:?}");
        }
        let bytes = progress.load(Ordering::Relaxed);
        ensure!(percent == 100 || at_harm < bytes, "the streams had ended already: {at_harm}");
        Ok(())
    }
}

/// The longest answers there are, so that there is time to lose an agent in the middle of them.
fn questions() -> Result<Vec<(String, Sampling)>> {
    let longest = evaluation::longest(STREAMS)?.into_iter().zip(1..);
    let asked = longest.map(|(question, seed)| {
        let sampling = if seed % 2 == 0 { Sampling::Greedy } else { Sampling::Seeded { seed } };
        (question.question, sampling)
    });
    Ok(asked.collect())
}
