use crate::cluster::{Cluster, TestAgent, endless_request, question_request, questions};
use proto::v1::GenerateRequest;

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_unchanged_when_a_peer_dies() {
    let questions = questions(4);
    let mut cluster = Cluster::ready(3, 2).await;
    let mut expected = Vec::new();
    for question in &questions {
        let answering = cluster.agents[0].generate(endless_request(question)).await.unwrap();
        expected.push(answering.finish().await);
    }
    let mut running = Vec::new();
    for question in &questions {
        let request = endless_request(question);
        running.push(cluster.agents[0].generate(request).await.unwrap());
    }
    for answering in &mut running {
        answering.read_tokens(1).await;
    }
    cluster.agents.pop().unwrap().kill();
    for (answering, expected) in running.into_iter().zip(&expected) {
        assert_eq!(answering.finish().await, *expected);
    }
    let status = cluster.agents[0].status_when(|status| !status.troubles.is_empty()).await;
    assert_eq!(status.troubles[0].agent_id, "agent-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_second_copy_streams_wait_for_the_peer_to_come_back() {
    let question = &questions(1)[0];
    let mut cluster = Cluster::ready(2, 1).await;
    let expected = cluster.agents[0].ask(question).await;
    let mut answering = cluster.agents[0].generate(question_request(question)).await.unwrap();
    answering.read_tokens(3).await;
    cluster.agents.pop().unwrap().kill();
    cluster.agents[0].status_when(|status| !status.troubles.is_empty()).await;

    // A new process at another address, with the same state: it loads by itself and serves experts.
    let state = cluster.state.path().join("agent-1");
    cluster.agents.push(TestAgent::start("agent-1", &state));
    let next = cluster.assignment(&cluster.agents[0], 2);
    cluster.agents[0].assign(next).await.unwrap();
    assert_eq!(answering.finish().await, expected);
    let status = cluster.agents[1].ready(1).await;
    assert_eq!(status.generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_continues_on_another_home() {
    let question = &questions(1)[0];
    let cluster = Cluster::ready(2, 2).await;
    let whole = cluster.agents[0].ask(question).await;
    let mut first = cluster.agents[0].generate(question_request(question)).await.unwrap();
    first.read_tokens(7).await;
    let before = first.answer.clone();
    drop(first);
    let request = GenerateRequest {
        emitted_token_ids: before.token_ids.clone(),
        ..question_request(question)
    };
    let after = cluster.agents[1].generate(request).await.unwrap().finish().await;
    assert_eq!([before.token_ids, after.token_ids].concat(), whole.token_ids);
    assert_eq!(before.text + &after.text, whole.text);
    assert_eq!(after.finish_reason, whole.finish_reason);
}
