//! The daemon as a process.

use crate::cluster::{Cluster, TestAgent, questions};
use proto::v1::{AgentPhase, AgentStatus, DrainRequest, GetStatusRequest};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longer than any test waits: an agent that leaves earlier had no reason to stay.
const SHUTDOWN_SECONDS: &str = "600";
/// What leaving may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn stop(child: &Child) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
}

async fn left(child: &mut Child) {
    let status = tokio::time::timeout(PATIENCE, child.wait()).await;
    assert!(status.expect("it stays").unwrap().success());
}

async fn spawn(id: &str, state_directory: &Path) -> (Child, TestAgent) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_boyle-agent"))
        .args(["--agent-id", id, "--state-directory"])
        .arg(state_directory)
        .env("BOYLE_LOG", "warn")
        .env("BOYLE_SHUTDOWN_SECONDS", SHUTDOWN_SECONDS)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let agent = TestAgent::remote(id, line.strip_prefix("listening on ").unwrap());
    (child, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_tells_its_address_serves_and_stops_cleanly() {
    let mut cluster = Cluster::idle(1, 2);
    let (mut child, agent) = spawn("process", &cluster.state.path().join("process")).await;
    cluster.agents.push(agent);
    for agent in &cluster.agents {
        agent.assign(cluster.assignment(agent, 1)).await.unwrap();
    }
    for agent in &cluster.agents {
        agent.ready(1).await;
    }
    let question = &questions(1)[0];
    let [inside, process] = &cluster.agents[..] else { panic!("two agents") };
    assert_eq!(process.ask(question).await, inside.ask(question).await);

    // Streams that would never end by themselves do not keep it: this one, and the other agent's exchange.
    let watch = process.client().await.watch_status(GetStatusRequest {}).await;
    let mut statuses = watch.unwrap().into_inner();
    stop(&child).await;
    while let Ok(Some(_)) = statuses.message().await {}
    left(&mut child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stays_while_it_holds_the_only_copy_of_an_expert() {
    let mut cluster = Cluster::idle(1, 1);
    let (mut child, agent) = spawn("process", &cluster.state.path().join("process")).await;
    cluster.agents.push(agent);
    for agent in &cluster.agents {
        agent.assign(cluster.assignment(agent, 1)).await.unwrap();
    }
    for agent in &cluster.agents {
        agent.ready(1).await;
    }
    let question = &questions(1)[0];
    let expected = cluster.agents[0].ask(question).await;
    stop(&child).await;
    let draining = |status: &AgentStatus| status.phase() == AgentPhase::Draining;
    cluster.agents[1].status_when(draining).await;
    assert_eq!(cluster.agents[0].ask(question).await, expected, "its experts still answer");

    // A plan with a second copy of each expert lets it go.
    cluster.copies = 2;
    for agent in &cluster.agents {
        agent.assign(cluster.assignment(agent, 2)).await.unwrap();
    }
    cluster.agents[0].ready(2).await;
    left(&mut child).await;
    assert_eq!(cluster.agents[0].ask(question).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_drained_before_does_not_stay() {
    let mut cluster = Cluster::idle(1, 1);
    let (mut child, agent) = spawn("process", &cluster.state.path().join("process")).await;
    cluster.agents.push(agent);
    for agent in &cluster.agents {
        agent.assign(cluster.assignment(agent, 1)).await.unwrap();
    }
    cluster.agents[1].ready(1).await;
    cluster.agents[1].client().await.drain(DrainRequest {}).await.unwrap();
    stop(&child).await;
    left(&mut child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_a_clear_error() {
    let cluster = Cluster::idle(1, 1);
    let output = Command::new(env!("CARGO_BIN_EXE_boyle-agent"))
        .args(["--agent-id", "second", "--listen", &cluster.agents[0].address])
        .arg("--state-directory")
        .arg(cluster.state.path().join("second"))
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains(&cluster.agents[0].address) && error.contains("listen"), "{error}");
}
