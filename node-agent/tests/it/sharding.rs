use crate::cluster::{Answer, Cluster, EXPERTS, LAYERS, questions};

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_and_three_give_the_same_tokens() {
    let questions = questions(6);
    let alone = Cluster::ready(1, 1).await;
    let shared = Cluster::ready(3, 2).await;
    let mut expected = Vec::new();
    for question in &questions {
        let answer = alone.agents[0].ask(question).await;
        assert!(answer.text.contains("</think>"), "{answer:?}");
        expected.push(answer);
    }
    for (question, expected) in questions.iter().zip(&expected) {
        for agent in &shared.agents {
            assert_eq!(agent.ask(question).await, *expected, "{} differs: {question}", agent.id);
        }
    }
    for agent in &shared.agents {
        let status = agent.status().await;
        let held: usize = status.resident.iter().map(|layer| layer.experts.len()).sum();
        let all = LAYERS.len() * EXPERTS as usize;
        assert!(held > 0 && held < all, "{} holds {held} of {all}", agent.id);
        let load = status.current.unwrap();
        assert!(load.expert_rows_local_total > 0 && load.expert_rows_remote_total > 0, "{load:?}");
        assert!(load.generated_tokens_total > 0 && load.prompt_tokens_total > 0, "{load:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_give_the_same_tokens_as_one_after_the_other() {
    let questions = questions(8);
    let shared = Cluster::ready(2, 1).await;
    let mut expected = Vec::new();
    for question in &questions {
        expected.push(shared.agents[0].ask(question).await);
    }
    let mut answering = Vec::new();
    for (index, question) in questions.iter().enumerate() {
        let home = &shared.agents[index % 2];
        let request = crate::cluster::question_request(question);
        answering.push(tokio::spawn(home.generate(request).await.unwrap().finish()));
    }
    let mut answers: Vec<Answer> = Vec::new();
    for answer in answering {
        answers.push(answer.await.unwrap());
    }
    assert_eq!(answers, expected);
}
