//! Agents that talk over mutual TLS.

use crate::cluster::{Cluster, DEPLOYMENT, TestAgent, question_request, questions};
use crate::credentials::{Authority, Credentials};
use node_agent::AgentConfig;
use proto::v1::agent_client::AgentClient;
use proto::v1::generation_client::GenerationClient;
use proto::v1::{DrainRequest, GetStatusRequest};
use tokio::process::Command;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_and_without_tls() {
    let questions = questions(4);
    let alone = Cluster::ready(1, 1).await;
    let credentials = Authority::new().credentials(DEPLOYMENT);
    let secured = Cluster::ready_with(3, 2, &credentials).await;
    for question in &questions {
        let expected = alone.agents[0].ask(question).await;
        for agent in &secured.agents {
            assert_eq!(agent.ask(question).await, expected, "{} differs: {question}", agent.id);
        }
    }
    for agent in &secured.agents {
        let status = agent.status().await;
        let load = status.current.unwrap();
        assert!(load.expert_rows_remote_total > 0, "{load:?}");
        assert!(status.troubles.is_empty(), "{:?}", status.troubles);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_may_do_its_part_only() {
    let authority = Authority::new();
    let credentials = authority.credentials(DEPLOYMENT);
    let cluster = Cluster::ready_with(1, 1, &credentials).await;
    let agent = &cluster.agents[0];
    let strangers = authority.credentials("other");
    let routers = [&strangers.router, &credentials.operator, &credentials.agent];
    for caller in routers {
        let mut client = GenerationClient::new(agent.channel_as(caller));
        let refused = client.generate(question_request("1+1=")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    for caller in [&strangers.router, &credentials.router, &credentials.agent] {
        let mut client = AgentClient::new(agent.channel_as(caller));
        let refused = client.assign(cluster.assignment(agent, 2)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        let refused = client.drain(DrainRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    let mut client = AgentClient::new(agent.channel_as(&credentials.router));
    client.get_status(GetStatusRequest {}).await.unwrap();
    let mut client = AgentClient::new(agent.channel_as(&Credentials::plaintext().operator));
    client.get_status(GetStatusRequest {}).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_deployment_is_no_peer() {
    let authority = Authority::new();
    let credentials = authority.credentials(DEPLOYMENT);
    let mut cluster = Cluster::idle_with(1, 2, &credentials);
    let config = AgentConfig::new("agent-1", cluster.state.path().join("agent-1"));
    let stranger = authority.credentials("other");
    cluster.agents.push(TestAgent::start_secured(config, &stranger));
    let [agent, other] = &cluster.agents[..] else { panic!("two agents") };
    agent.assign(cluster.assignment(agent, 1)).await.unwrap();
    other.assign(cluster.assignment(other, 1)).await.unwrap();
    let status = agent.status_when(|status| !status.troubles.is_empty()).await;
    let reason = &status.troubles[0].reason;
    assert!(reason.contains("does not prove that it is agent.tiny-r1.ns"), "{reason}");
}

#[tokio::test]
async fn a_process_does_not_listen_to_strangers_without_certificates() {
    let state = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boyle-agent"));
        command.args(["--agent-id", "a", "--state-directory"]).arg(state.path()).args(arguments);
        command
    };
    let output = start(&["--listen", "0.0.0.0:0"]).output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(error.contains("0.0.0.0:0") && error.contains("--tls-directory"), "{error}");

    let folder = state.path().join("nothing");
    let folder = folder.to_str().unwrap();
    let output = start(&["--tls-directory", folder]).output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(error.contains(folder) && error.contains("tls.crt"), "{error}");
}
