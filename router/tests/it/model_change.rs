//! A deployment moves to another model: new sequences begin on it, old ones end on the one that they began on.

use crate::agent::{Act, ScriptedAgent};
use crate::world::{MODEL, Streamed, World, chat_body, home, patience, reasoning_answer};
use proto::v1::{Home, HomeRole, SetHomesRequest};
use router::{Patience, RouterConfig};
use serde_json::json;
use std::time::Duration;

const OPEN: HomeRole = HomeRole::Open;
const RESUME: HomeRole = HomeRole::Resume;

fn agent(id: &str, acts: Vec<Act>) -> ScriptedAgent {
    ScriptedAgent::start(id, reasoning_answer(), acts)
}

fn part(agent: &ScriptedAgent, role: HomeRole, fingerprint: &str) -> Home {
    let mut home = home(&agent.id, &agent.address.to_string());
    home.set_role(role);
    fingerprint.clone_into(&mut home.fingerprint);
    home
}

async fn set(world: &mut World, generation: u64, homes: Vec<Home>) {
    let request = SetHomesRequest { generation, model: MODEL.to_owned(), homes };
    world.control.set_homes(request).await.unwrap();
}

/// A stream on `home` that hangs after two tokens, as far as that.
async fn begun(world: &World) -> (reqwest::Response, String) {
    let mut response =
        world.post("/v1/chat/completions", &chat_body(json!({"stream": true}))).await;
    let mut text = String::new();
    while !text.contains("plus") {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    (response, text)
}

async fn rest((mut response, mut text): (reqwest::Response, String)) -> String {
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    text
}

#[tokio::test]
async fn streams_stay_with_their_model_and_new_requests_go_to_the_new_one() {
    let mut old = agent("old-0", vec![Act::HangAfter(2)]);
    let mut old_too = agent("old-1", vec![]);
    let mut new = agent("new-0", vec![]);
    let mut world =
        World::start(RouterConfig { patience: patience(), ..RouterConfig::default() }).await;
    set(&mut world, 1, vec![part(&old, OPEN, "f1")]).await;
    world.wait_for_ready(1).await;
    let stream = begun(&world).await;
    let homes =
        vec![part(&old, RESUME, "f1"), part(&old_too, RESUME, "f1"), part(&new, OPEN, "f2")];
    set(&mut world, 2, homes).await;
    world.wait_for_ready(3).await;
    world.chat(&chat_body(json!({}))).await;
    assert_eq!((new.requests_so_far(), old_too.requests_so_far()), (1, 0));
    assert_eq!(old.requests_so_far(), 1, "the stream is not touched");
    old.kill();
    let streamed = Streamed::parse(&rest(stream).await);
    assert!(streamed.done);
    assert_eq!(streamed.text(0, "content"), "four 🦀");
    assert_eq!((new.requests_so_far(), old_too.requests_so_far()), (0, 1));
}

#[tokio::test]
async fn a_stream_whose_model_is_gone_ends_with_an_error_that_says_so() {
    let mut old = agent("old", vec![Act::HangAfter(2)]);
    let mut new = agent("new", vec![]);
    let patience = Patience { hold: Duration::from_millis(200), ..patience() };
    let mut world = World::start(RouterConfig { patience, ..RouterConfig::default() }).await;
    set(&mut world, 1, vec![part(&old, OPEN, "f1")]).await;
    world.wait_for_ready(1).await;
    let stream = begun(&world).await;
    set(&mut world, 2, vec![part(&new, OPEN, "f2")]).await;
    world.wait_for_ready(1).await;
    old.kill();
    let text = rest(stream).await;
    assert!(
        text.contains("no home has the model any more that the answer began on (f1)"),
        "{text}"
    );
    assert!(!text.contains("[DONE]"), "{text}");
    assert_eq!(new.requests_so_far(), 0);
}

#[tokio::test]
async fn an_unknown_fingerprint_is_not_compared() {
    for (first, second) in [("", "f2"), ("f1", ""), ("", "")] {
        let mut old = agent("old", vec![Act::HangAfter(2)]);
        let new = agent("new", vec![]);
        let mut world =
            World::start(RouterConfig { patience: patience(), ..RouterConfig::default() }).await;
        set(&mut world, 1, vec![part(&old, OPEN, first)]).await;
        world.wait_for_ready(1).await;
        let stream = begun(&world).await;
        set(&mut world, 2, vec![part(&new, OPEN, second)]).await;
        world.wait_for_ready(1).await;
        old.kill();
        assert!(Streamed::parse(&rest(stream).await).done, "{first:?}, {second:?}");
    }
}

#[tokio::test]
async fn homes_that_only_continue_take_nothing_new() {
    let mut old = agent("old", vec![]);
    let patience = Patience { hold: Duration::from_millis(100), ..patience() };
    let mut world = World::start(RouterConfig { patience, ..RouterConfig::default() }).await;
    set(&mut world, 1, vec![part(&old, RESUME, "f1")]).await;
    world.wait_for_ready(1).await;
    let refused = world.post("/v1/chat/completions", &chat_body(json!({}))).await;
    assert_eq!(refused.status(), 503);
    let text = refused.text().await.unwrap();
    assert!(text.contains("all homes only continue sequences of an earlier model"), "{text}");
    assert_eq!(world.get("/health").await.status(), 503);
    assert_eq!(old.requests_so_far(), 0);
}

#[tokio::test]
async fn the_list_of_models_shows_the_change() {
    let (old, new) = (agent("old", vec![]), agent("new", vec![]));
    let mut world =
        World::start(RouterConfig { patience: patience(), ..RouterConfig::default() }).await;
    set(&mut world, 1, vec![part(&old, OPEN, "")]).await;
    for (generation, homes, shown) in [
        (2, vec![part(&old, OPEN, "f1")], "f1"),
        (3, vec![part(&old, OPEN, "f1"), part(&new, RESUME, "f2")], "f1"),
        (4, vec![part(&old, RESUME, "f1"), part(&new, OPEN, "f2")], "f2"),
    ] {
        set(&mut world, generation, homes).await;
        let models: serde_json::Value = world.get("/v1/models").await.json().await.unwrap();
        assert_eq!(models["data"][0]["fingerprint"], shown, "{models}");
        assert_eq!(models["data"][0]["id"], MODEL);
    }
    let mut strange = part(&old, OPEN, "");
    strange.role = 7;
    let request = SetHomesRequest { generation: 9, model: MODEL.to_owned(), homes: vec![strange] };
    let status = world.control.set_homes(request).await.unwrap_err();
    assert!(status.message().starts_with("homes[0].role 7"), "{status}");
}
