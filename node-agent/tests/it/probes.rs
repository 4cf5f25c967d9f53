//! What the kubelet and Prometheus see.

use crate::cluster::{Cluster, probe_value, questions};
use proto::v1::DrainRequest;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_ready_between_its_self_test_and_its_drain() {
    let idle = Cluster::idle(1, 1);
    let agent = &idle.agents[0];
    assert_eq!(agent.probe("/livez").await.0, 200);
    let (code, body) = agent.probe("/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("no assignment"), "{body}");
    assert_eq!(probe_value(&agent.probe("/metrics").await.1, "boyle_agent_ready"), 0.0);

    agent.assign(idle.assignment(agent, 1)).await.unwrap();
    agent.ready(1).await;
    assert_eq!(agent.probe("/readyz").await.0, 200);
    assert_eq!(agent.probe("/livez").await.0, 200);

    agent.client().await.drain(DrainRequest {}).await.unwrap();
    let (code, body) = agent.probe("/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("draining"), "{body}");
    assert_eq!(agent.probe("/livez").await.0, 200);
    assert_eq!(agent.probe("/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_follow_the_work() {
    let cluster = Cluster::ready(2, 1).await;
    let agent = &cluster.agents[0];
    let answer = agent.ask(&questions(1)[0]).await;
    let tokens = answer.token_ids.len() as f64;
    // The self-test's token counts too.
    agent
        .status_when(|status| status.current.unwrap().generated_tokens_total as f64 > tokens)
        .await;
    let (code, metrics) = agent.probe("/metrics").await;
    assert_eq!(code, 200);
    let value = |name: &str| probe_value(&metrics, &format!("boyle_agent_{name}"));
    assert_eq!(value("generation_tokens_total"), tokens + 1.0);
    assert_eq!(value("prompt_tokens_total"), answer.prompt_token_ids.len() as f64 + 1.0);
    assert_eq!(value("experts_assigned"), 32.0);
    assert_eq!(value("experts_loaded"), 32.0);
    assert_eq!(value("ready"), 1.0);
    assert_eq!(value("plan_generation"), 1.0);
    assert_eq!(value("phase{phase=\"ready\"}"), 1.0);
    assert_eq!(value("load_bytes{state=\"done\"}"), value("load_bytes{state=\"total\"}"));
    assert!(value("step_seconds_count") >= tokens, "one pass for each token");
    assert!(value("exchange_seconds_count") > 0.0);
    assert!(value("exchange_rows_sent_total") > 0.0);
    assert!(value("expert_rows_total{place=\"local\"}") > 0.0);
    assert!(value("expert_rows_total{place=\"remote\"}") > 0.0);
    assert!(value("model_load_seconds") > 0.0);
    assert!(value("memory_bytes") > 0.0);
    assert!(metrics.contains("boyle_agent_build_info{version="), "{metrics}");
}
