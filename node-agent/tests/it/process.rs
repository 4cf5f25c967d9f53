//! The daemon as a process.

use crate::cluster::{Cluster, TestAgent, questions};
use proto::v1::GetStatusRequest;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

async fn spawn(id: &str, state_directory: &Path) -> (Child, TestAgent) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_boyle-agent"))
        .args(["--agent-id", id, "--state-directory"])
        .arg(state_directory)
        .env("BOYLE_LOG", "warn")
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
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    while let Ok(Some(_)) = statuses.message().await {}
    assert!(child.wait().await.unwrap().success());
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
