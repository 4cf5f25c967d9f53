//! Every failure has OpenAI's shape with all four keys.

use crate::agent::{Act, ScriptedAgent};
use crate::world::{World, chat_body, completion_body, keys, patience, reasoning_answer};
use router::BODY_BYTES_MAX;
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

async fn world(acts: Vec<Act>) -> (World, ScriptedAgent) {
    let agent = ScriptedAgent::start("a", reasoning_answer(), acts);
    (World::with(patience(), &[&agent]).await, agent)
}

/// Status code, type, param and code of an error response; checks its form.
async fn error(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(keys(&body), ["error"]);
    assert_eq!(keys(&body["error"]), ["code", "message", "param", "type"]);
    assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    (status, body["error"].clone())
}

#[tokio::test]
async fn an_unknown_model_is_named_with_the_served_one() {
    let (world, _agent) = world(vec![]).await;
    for (path, body) in [
        ("/v1/chat/completions", chat_body(json!({"model": "o1"}))),
        ("/v1/completions", completion_body(json!({"model": "o1"}))),
    ] {
        let (status, error) = error(world.post(path, &body).await).await;
        assert_eq!(status, 404);
        assert_eq!(error["code"], "model_not_found");
        assert_eq!(error["param"], "model");
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("\"o1\"") && message.contains("tiny"), "{message}");
    }
    let (status, error) = error(world.get("/v1/models/org/o1").await).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn what_http_itself_refuses_has_the_same_shape() {
    let (world, _agent) = world(vec![]).await;
    let chat = format!("{}/v1/chat/completions", world.url);
    let (status, body) = error(world.get("/v1/nothing").await).await;
    assert_eq!((status, &body["code"]), (404, &json!("unknown_url")));
    let (status, body) = error(world.get("/v1/chat/completions").await).await;
    assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")));
    let text = world.http.post(&chat).header("content-type", "text/plain").body("{}");
    let (status, body) = error(text.send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (415, &json!("unsupported_media_type")));
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let large = world.http.post(&chat).header("content-type", "application/json").body(large);
    let (status, body) = error(large.send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (413, &json!("body_too_large")));
    let bare = world.http.post(&chat).body("no json");
    let (status, body) = error(bare.send().await.unwrap()).await;
    assert_eq!(
        (status, &body["code"], &body["param"]),
        (400, &json!("invalid_json"), &Value::Null)
    );
}

#[tokio::test]
async fn a_home_that_refuses_names_field_and_code() {
    let mut metadata = MetadataMap::new();
    metadata.insert("boyle-error-code", "context_length_exceeded".parse().unwrap());
    metadata.insert("boyle-error-param", "messages".parse().unwrap());
    let message = "the prompt has 9 tokens and the context holds 8";
    let refusal = Status::with_metadata(Code::InvalidArgument, message, metadata);
    let (world, _agent) = world(vec![Act::Refuse(refusal); 2]).await;
    for stream in [false, true] {
        let body = chat_body(json!({"stream": stream}));
        let (status, error) = error(world.post("/v1/chat/completions", &body).await).await;
        assert_eq!(status, 400);
        assert_eq!(error["code"], "context_length_exceeded");
        assert_eq!(error["param"], "messages");
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["message"], message);
    }
}

#[tokio::test]
async fn full_homes_are_passed_over_and_429_when_all_are() {
    let full = || Act::Refuse(Status::resource_exhausted("queue full"));
    let first = ScriptedAgent::start("a", reasoning_answer(), vec![full(), full()]);
    let second = ScriptedAgent::start("b", reasoning_answer(), vec![Act::Serve, full()]);
    let world = World::with(patience(), &[&first, &second]).await;
    world.chat(&chat_body(json!({}))).await;
    let response = world.post("/v1/chat/completions", &chat_body(json!({}))).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, error) = error(response).await;
    assert_eq!(status, 429);
    assert_eq!(error["type"], "rate_limit_error");
    assert_eq!(error["code"], "rate_limit_exceeded");
}

#[tokio::test]
async fn before_the_first_set_of_homes_nothing_is_served() {
    let world = World::start(router::RouterConfig::default()).await;
    let models: Value = world.get("/v1/models").await.json().await.unwrap();
    assert_eq!(models["data"], json!([]));
    let health = world.get("/health").await;
    assert_eq!(health.status(), 503);
    let health: Value = health.json().await.unwrap();
    assert!(health["reason"].as_str().unwrap().contains("homes"), "{health}");
    let response = world.post("/v1/chat/completions", &chat_body(json!({}))).await;
    assert_eq!(response.headers()["retry-after"], "5");
    let (status, error) = error(response).await;
    assert_eq!((status, &error["type"]), (503, &json!("server_error")));
}

#[tokio::test]
async fn without_a_home_the_hold_ends_with_503() {
    let patience = router::Patience { hold: std::time::Duration::ZERO, ..patience() };
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![]);
    let mut world = World::with(patience, &[&agent]).await;
    agent.set_status(proto::v1::AgentPhase::Loading, 0);
    world.wait_for_ready(0).await;
    let response = world.post("/v1/chat/completions", &chat_body(json!({}))).await;
    let (status, error) = error(response).await;
    assert_eq!((status, &error["code"]), (503, &json!("no_home_available")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("a: loading"), "{message}");
}
