//! Starting, stopping, and starting where something else is already.

use anyhow::{Context, Result, ensure};
use e2e::client::{Progress, Sampling};
use e2e::deployment::{Deployment, Shape, boyle};
use e2e::{processes, waiting};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// For a command that must fail, and fail soon.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(20);

const SHAPE: Shape = Shape { agents: 2, copies: 1 };

#[tokio::test]
async fn terminating_leaves_no_process_behind() -> Result<()> {
    for send in [processes::terminate, processes::interrupt] {
        let deployment = Deployment::start(SHAPE).await?;
        let (status, left) = deployment.stop(send).await?;
        ensure!(status.success(), "a clean stop must exit with 0, not {status}");
        ensure!(left.is_empty(), "left behind: {left:?}");
    }
    Ok(())
}

#[tokio::test]
async fn losing_the_parent_leaves_no_process_behind() -> Result<()> {
    let deployment = Deployment::start(SHAPE).await?;
    let family = processes::family(deployment.pid())?;
    processes::kill(deployment.pid())?;
    waiting::until("the children to notice", REFUSAL_DEADLINE, async || {
        let left = processes::alive(&family)?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_router_comes_back_at_its_address() -> Result<()> {
    let mut deployment = Deployment::start(SHAPE).await?;
    let agents: Vec<u32> = deployment.status()?.pids().into_values().collect();
    let family = processes::family(deployment.pid())?;
    let others = family.into_iter().filter(|pid| *pid != deployment.pid() && !agents.contains(pid));
    for router in others.collect::<Vec<_>>() {
        processes::kill(router)?;
    }
    let client = deployment.client();
    waiting::until("the router's return", REFUSAL_DEADLINE, async || {
        client.ask("What is 1 + 2?", &Sampling::Greedy, &Progress::default()).await
    })
    .await?;
    let kept: Vec<u32> = deployment.whole().await?.pids().into_values().collect();
    ensure!(kept == agents, "agents were restarted for a router's sake: {agents:?} → {kept:?}");
    Ok(())
}

#[tokio::test]
async fn a_second_up_is_refused() -> Result<()> {
    let deployment = Deployment::start(SHAPE).await?;
    let refused = ended(deployment.command()?.args(["up", "--port", "0"])).await?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success(), "a second `boyle up` must fail");
    ensure!(
        said.contains(&deployment.pid().to_string()),
        "it must name the process that runs: {said}"
    );
    ensure!(deployment.status()?.is_whole(), "the first one must go on");
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named() -> Result<()> {
    let home = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let refused = ended(boyle(home.path())?.args(["up", "--port", &port])).await?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success(), "a taken port must fail");
    ensure!(
        said.contains(&port) && said.contains("--port"),
        "it must name the port and the remedy: {said}"
    );
    Ok(())
}

#[tokio::test]
async fn status_without_a_deployment_says_how_to_start_one() -> Result<()> {
    let home = tempfile::tempdir()?;
    let refused = ended(boyle(home.path())?.arg("status")).await?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("boyle up"), "{said}");
    Ok(())
}

/// Runs a command that ends by itself.
async fn ended(command: &mut Command) -> Result<Output> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let waited = waiting::until("the command's end", REFUSAL_DEADLINE, async || {
        child.try_wait()?.context("it still runs")
    });
    if let Err(error) = waited.await {
        for pid in processes::family(child.id())? {
            processes::kill(pid)?;
        }
        child.wait()?;
        return Err(error);
    }
    Ok(child.wait_with_output()?)
}
