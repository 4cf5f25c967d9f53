use crate::cluster::{Cluster, TestAgent, question_request, questions};
use proto::v1::{AgentPhase, DrainRequest};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn generations_only_go_up() {
    let cluster = Cluster::idle(1, 1);
    let agent = &cluster.agents[0];
    assert_eq!(agent.status().await.phase(), AgentPhase::Unassigned);
    let error = agent.generate(question_request("1 + 1 = ?")).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable, "{error}");

    let second = cluster.assignment(agent, 2);
    assert_eq!(agent.assign(second.clone()).await.unwrap(), 2);
    assert_eq!(agent.assign(second.clone()).await.unwrap(), 2, "an equal one is a no-op");
    agent.ready(2).await;
    assert_eq!(agent.assign(second).await.unwrap(), 2);
    assert_eq!(agent.status().await.phase(), AgentPhase::Ready);

    let refused = |code, generation, change: fn(&mut proto::v1::Assignment)| {
        let mut assignment = cluster.assignment(agent, generation);
        change(&mut assignment);
        async move {
            let error = agent.assign(assignment).await.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            error.message().to_owned()
        }
    };
    refused(Code::FailedPrecondition, 1, |_| {}).await;
    let other_content = |it: &mut proto::v1::Assignment| it.peers[0].address = "127.0.0.1:9".into();
    refused(Code::FailedPrecondition, 2, other_content).await;
    let other_agent = |it: &mut proto::v1::Assignment| it.agent_id = "agent-9".into();
    let message = refused(Code::InvalidArgument, 3, other_agent).await;
    assert!(message.contains("agent-9"), "{message}");
    let settings = |it: &mut proto::v1::Assignment| it.settings.as_mut().unwrap().queue_max = 3;
    let message = refused(Code::FailedPrecondition, 3, settings).await;
    assert!(message.contains("restart"), "{message}");
    assert_eq!(agent.status().await.phase(), AgentPhase::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_process_takes_up_the_last_assignment() {
    let question = &questions(1)[0];
    let mut cluster = Cluster::ready(1, 1).await;
    let expected = cluster.agents[0].ask(question).await;
    // Recorded although the running process cannot apply it.
    let mut changed = cluster.assignment(&cluster.agents[0], 5);
    changed.settings.as_mut().unwrap().queue_max = 3;
    let error = cluster.agents[0].assign(changed).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    cluster.agents.pop().unwrap().kill();

    let agent = TestAgent::start("agent-0", &cluster.state.path().join("agent-0"));
    agent.ready(5).await;
    assert_eq!(agent.ask(question).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_placement_moves_experts_under_running_sequences() {
    let questions = questions(3);
    let mut cluster = Cluster::ready(2, 1).await;
    let mut expected = Vec::new();
    for question in &questions {
        expected.push(cluster.agents[0].ask(question).await);
    }
    let before = cluster.agents[0].status().await.resident;
    let mut running = Vec::new();
    for question in &questions {
        let request = question_request(question);
        running.push(cluster.agents[0].generate(request).await.unwrap());
    }
    for answering in &mut running {
        answering.read_tokens(2).await;
    }
    // The agents in the other order: every expert changes its place.
    cluster.agents.reverse();
    for agent in &cluster.agents {
        agent.assign(cluster.assignment(agent, 2)).await.unwrap();
    }
    for (answering, expected) in running.into_iter().zip(&expected) {
        assert_eq!(answering.finish().await, *expected);
    }
    let after = cluster.agents[1].ready(2).await;
    assert_eq!(after.agent_id, "agent-0");
    for (before, after) in before.iter().zip(&after.resident) {
        assert!(before.experts.iter().all(|expert| !after.experts.contains(expert)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_says_why_and_another_assignment_tries_again() {
    let cluster = Cluster::idle(1, 1);
    let agent = &cluster.agents[0];
    let empty = tempfile::tempdir().unwrap();
    let mut assignment = cluster.assignment(agent, 1);
    let directory = empty.path().to_str().unwrap().to_owned();
    assignment.model.as_mut().unwrap().directory = directory.clone();
    agent.assign(assignment).await.unwrap();
    let status = agent.status_when(|status| status.phase() == AgentPhase::Failed).await;
    assert!(status.error.contains(&directory), "{}", status.error);
    assert!(status.error.contains("config.json"), "{}", status.error);

    let mut incomplete = cluster.assignment(agent, 2);
    incomplete.placement.pop();
    agent.assign(incomplete).await.unwrap();
    let missing = |status: &proto::v1::AgentStatus| status.error.contains("expert 15 of layer 4");
    agent.status_when(missing).await;

    agent.assign(cluster.assignment(agent, 3)).await.unwrap();
    let status = agent.ready(3).await;
    assert_eq!(status.error, "");
    let load = status.load.unwrap();
    assert!(load.bytes_total > 0 && load.bytes_loaded == load.bytes_total, "{load:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_takes_nothing_new_and_ends_nothing() {
    let question = &questions(1)[0];
    let cluster = Cluster::ready(1, 1).await;
    let agent = &cluster.agents[0];
    let expected = agent.ask(question).await;
    let mut answering = agent.generate(question_request(question)).await.unwrap();
    answering.read_tokens(1).await;
    let status = agent.client().await.drain(DrainRequest {}).await.unwrap().into_inner();
    assert_eq!(status.phase(), AgentPhase::Draining);
    let error = agent.generate(question_request(question)).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert_eq!(answering.finish().await, expected);
    assert_eq!(agent.status().await.phase(), AgentPhase::Draining);
}
