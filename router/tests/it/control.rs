//! The set of homes: generations, choice, and what becomes of streams when it changes.

use crate::agent::{Act, ScriptedAgent};
use crate::world::{MODEL, Streamed, WAIT, World, chat_body, home, patience, reasoning_answer};
use proto::v1::{AgentPhase, Home, SetHomesRequest};
use router::RouterConfig;
use serde_json::json;
use std::time::Duration;
use tonic::Code;

fn agent(id: &str) -> ScriptedAgent {
    ScriptedAgent::start(id, reasoning_answer(), vec![])
}

fn request(generation: u64, model: &str, homes: &[Home]) -> SetHomesRequest {
    SetHomesRequest { generation, model: model.to_owned(), homes: homes.to_vec() }
}

#[tokio::test]
async fn generations_only_go_forward() {
    let mut world = World::start(RouterConfig::default()).await;
    let (a, b) = (home("a", "127.0.0.1:1"), home("b", "127.0.0.1:2"));
    let both = [a.clone(), b];
    let mut set = async |request| match world.control.set_homes(request).await {
        Ok(reply) => Ok(reply.into_inner().generation),
        Err(status) => Err(status.code()),
    };
    assert_eq!(set(request(5, MODEL, &both)).await, Ok(5));
    assert_eq!(set(request(5, MODEL, &both)).await, Ok(5), "the same again changes nothing");
    assert_eq!(set(request(4, MODEL, &both)).await, Err(Code::FailedPrecondition));
    assert_eq!(set(request(5, MODEL, &[a])).await, Err(Code::FailedPrecondition));
    assert_eq!(set(request(6, MODEL, &[])).await, Ok(6), "no homes is a set too");
    assert_eq!(world.status().await.generation, 6);
}

#[tokio::test]
async fn a_malformed_set_is_refused_by_field_and_changes_nothing() {
    let mut world = World::start(RouterConfig::default()).await;
    let good = home("a", "127.0.0.1:1");
    for (wrong, field) in [
        (request(1, "", std::slice::from_ref(&good)), "model"),
        (request(1, MODEL, &[good.clone(), good.clone()]), "homes[1].agent_id"),
        (request(1, MODEL, &[home("", "127.0.0.1:1")]), "homes[0].agent_id"),
        (request(1, MODEL, &[home("a", "nowhere")]), "homes[0].address"),
        (request(1, MODEL, &[good.clone(), home("b", ":80")]), "homes[1].address"),
        (request(1, MODEL, &[home("a", "host:99999")]), "homes[0].address"),
        (request(1, MODEL, &[home("a", "no host:80")]), "homes[0].address"),
    ] {
        let status = world.control.set_homes(wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(field), "{status}");
    }
    assert_eq!(world.status().await.generation, 0);
}

#[tokio::test]
async fn the_least_loaded_home_is_chosen_and_ties_go_by_id() {
    let (mut a, mut b) = (agent("a"), agent("b"));
    let mut world = World::with(patience(), &[&a, &b]).await;
    world.chat(&chat_body(json!({}))).await;
    assert_eq!((a.requests_so_far(), b.requests_so_far()), (1, 0));
    a.set_status(AgentPhase::Draining, 0);
    world.wait_for_ready(1).await;
    a.set_status(AgentPhase::Ready, 3);
    world.wait_for_ready(2).await;
    world.chat(&chat_body(json!({}))).await;
    assert_eq!((a.requests_so_far(), b.requests_so_far()), (0, 1));
}

#[tokio::test]
async fn a_home_with_a_late_status_is_chosen_last() {
    let status_late = Duration::from_millis(200);
    let (mut a, mut b) = (agent("a"), agent("b"));
    let late = router::Patience { status_late, ..patience() };
    let world = World::with(late, &[&a, &b]).await;
    let deadline = std::time::Instant::now() + WAIT;
    // Only b goes on reporting, and more load than a ever did.
    while b.requests_so_far() == 0 {
        assert!(std::time::Instant::now() < deadline, "a was chosen for ever");
        b.set_status(AgentPhase::Ready, 3);
        world.chat(&chat_body(json!({}))).await;
    }
    a.requests_so_far();
    let all_late = router::Patience { status_late: Duration::ZERO, ..patience() };
    let world = World::with(all_late, &[&a, &b]).await;
    world.chat(&chat_body(json!({}))).await;
    assert_eq!(a.requests_so_far(), 1, "late is better than nobody, and load decides");
}

#[tokio::test]
async fn own_sequences_count_as_load() {
    let hang = vec![Act::HangAfter(0)];
    let mut a = ScriptedAgent::start("a", reasoning_answer(), hang.clone());
    let mut b = ScriptedAgent::start("b", reasoning_answer(), hang);
    let world = World::with(patience(), &[&a, &b]).await;
    let body = chat_body(json!({"stream": true}));
    let first = world.post("/v1/chat/completions", &body).await;
    let second = world.post("/v1/chat/completions", &body).await;
    assert_eq!((first.status(), second.status()), (200.try_into().unwrap(), first.status()));
    assert_eq!((a.requests_so_far(), b.requests_so_far()), (1, 1));
}

#[tokio::test]
async fn a_home_that_leaves_the_set_finishes_its_streams() {
    let broken = Act::BreakAfter(2, tonic::Status::unavailable("restart"));
    let mut a = ScriptedAgent::start("a", reasoning_answer(), vec![Act::HangAfter(2)]);
    let mut b = ScriptedAgent::start("b", reasoning_answer(), vec![broken]);
    let mut world = World::with(patience(), &[&a]).await;
    let body = chat_body(json!({"stream": true}));
    let mut response = world.post("/v1/chat/completions", &body).await;
    let mut text = String::new();
    while !text.contains("plus") {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    world.set_homes(2, &[&b]).await;
    world.wait_for_ready(1).await;
    assert_eq!(b.requests_so_far(), 0, "the stream stays where it is");
    a.kill();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let streamed = Streamed::parse(&text);
    assert_eq!(streamed.text(0, "content"), "four 🦀");
    assert!(streamed.done);
    assert_eq!(b.requests_so_far(), 2);
}

#[tokio::test]
async fn an_address_taken_over_by_another_agent_is_no_home() {
    let other = agent("other");
    let mut world = World::start(RouterConfig::default()).await;
    let homes = [home("a", &other.address.to_string())];
    world.control.set_homes(request(1, MODEL, &homes)).await.unwrap();
    loop {
        let health: serde_json::Value = world.get("/health").await.json().await.unwrap();
        assert_eq!(health["homes_ready"], 0);
        if health["reason"].as_str().unwrap().contains("answered by agent \"other\"") {
            break;
        }
        tokio::task::yield_now().await;
    }
}
