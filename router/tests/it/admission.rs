//! Bounds on what runs, and the end of work that nobody waits for.

use crate::agent::{Act, Answer, ScriptedAgent};
use crate::world::{Streamed, World, chat_body, completion_body, patience, reasoning_answer};
use proto::v1::ReasoningState;
use router::RouterConfig;
use serde_json::json;

#[tokio::test]
async fn a_client_that_leaves_cancels_its_sequences() {
    let acts = vec![Act::HangAfter(1), Act::HangAfter(1), Act::Hang];
    let mut agent = ScriptedAgent::start("a", reasoning_answer(), acts);
    let mut world = World::with(patience(), &[&agent]).await;
    let body = chat_body(json!({"stream": true, "n": 2}));
    let mut response = world.post("/v1/chat/completions", &body).await;
    response.chunk().await.unwrap();
    drop(response);
    agent.cancelled().await;
    agent.cancelled().await;

    let whole = world.http.post(format!("{}/v1/chat/completions", world.url));
    let whole = tokio::spawn(whole.json(&chat_body(json!({}))).send());
    for _ in 0..3 {
        agent.request().await;
    }
    whole.abort();
    agent.cancelled().await;
    while world.status().await.requests_in_flight > 0 {
        tokio::task::yield_now().await;
    }
    let text = world.get("/metrics").await.text().await.unwrap();
    let line = "boyle_router_requests_total{code=\"499\",endpoint=\"chat_completions\"} 2";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn more_sequences_than_allowed_are_refused() {
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![Act::HangAfter(0)]);
    let config = RouterConfig { sequences_max: 3, patience: patience(), ..RouterConfig::default() };
    let mut world = World::start(config).await;
    world.set_homes(1, &[&agent]).await;
    world.wait_for_ready(1).await;
    let stream = chat_body(json!({"stream": true}));
    let held = world.post("/v1/chat/completions", &stream).await;
    assert_eq!(held.status(), 200);
    let three = completion_body(json!({"prompt": ["a", "b", "c"]}));
    let response = world.post("/v1/completions", &three).await;
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let two = chat_body(json!({"n": 2}));
    assert_eq!(world.post("/v1/chat/completions", &two).await.status(), 200);
    drop(held);
    while world.status().await.requests_in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.post("/v1/completions", &three).await.status(), 200, "permits come back");
}

/// Several times what the sockets between agent and client hold.
#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_loses_nothing() {
    const TOKENS: usize = 50_000;
    let word = "a piece of text that is somewhat longer than the usual token, to fill buffers ";
    let tokens = vec![(7, word); TOKENS];
    let answer = Answer { tokens, reasoning: ReasoningState::Closed };
    let agent = ScriptedAgent::start("a", answer, vec![]);
    let world = World::with(patience(), &[&agent]).await;
    let slow = world.post("/v1/chat/completions", &chat_body(json!({"stream": true}))).await;
    for _ in 0..4 {
        let quick = world.chat(&chat_body(json!({"max_tokens": 100}))).await;
        assert_eq!(quick["usage"]["completion_tokens"], 100);
    }
    let streamed = Streamed::parse(&slow.text().await.unwrap());
    assert!(streamed.done);
    assert_eq!(streamed.text(0, "content").len(), TOKENS * word.len());
}
