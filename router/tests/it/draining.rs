//! From the stop signal to the end: nothing is cut, and nobody is sent to a router that stops.

use crate::agent::{Act, ScriptedAgent};
use crate::world::{Streamed, WAIT, World, chat_body, client, patience, reasoning_answer};
use proto::v1::router_control_client::RouterControlClient;
use router::{Patience, RouterConfig, RouterError};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than the few requests of a test take on a loaded machine.
const DRAIN: Duration = Duration::from_secs(3);

/// As [`World::with`], and the server's end.
async fn served(
    patience: Patience,
    agent: &ScriptedAgent,
) -> (World, JoinHandle<Result<(), RouterError>>) {
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", http.local_addr().unwrap());
    let control_url = format!("http://{}", control.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let config = RouterConfig { patience, ..RouterConfig::default() };
    let served = tokio::spawn(router::serve(config, http, control, async move {
        let _ = stopped.await;
    }));
    let control = RouterControlClient::connect(control_url.clone()).await.unwrap();
    let mut world = World { url, control_url, http: client(), control, stop };
    world.set_homes(1, &[agent]).await;
    world.wait_for_ready(1).await;
    (world, served)
}

async fn ended(served: JoinHandle<Result<(), RouterError>>) {
    timeout(WAIT, served).await.expect("the router ends").unwrap().unwrap();
}

#[tokio::test]
async fn readiness_needs_a_set_of_homes_even_if_it_is_empty() {
    let mut world = World::start(RouterConfig::default()).await;
    assert_eq!(world.get("/livez").await.status(), 200);
    assert_eq!(world.get("/readyz").await.status(), 503);
    world.set_homes(1, &[]).await;
    assert_eq!(world.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn shutdown_ends_the_router_with_streams_and_idle_connections_open() {
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![Act::HangAfter(1)]);
    let (world, served) = served(patience(), &agent).await;
    let stream = world.post("/v1/chat/completions", &chat_body(json!({"stream": true}))).await;
    assert_eq!(stream.status(), 200);
    world.stop.send(()).unwrap();
    ended(served).await;
}

#[tokio::test]
async fn while_it_drains_a_router_is_unready_and_serves_and_parts_from_its_clients() {
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![]);
    let patience = Patience { drain: DRAIN, shutdown: WAIT, ..patience() };
    let (world, served) = served(patience, &agent).await;
    let before = world.get("/readyz").await;
    assert_eq!((before.status().as_u16(), before.headers().get("connection")), (200, None));
    let url = world.url.clone();
    let http = world.http.clone();
    world.stop.send(()).unwrap();
    let deadline = std::time::Instant::now() + WAIT;
    let unready = loop {
        assert!(std::time::Instant::now() < deadline, "it never became unready");
        let answer = http.get(format!("{url}/readyz")).send().await.unwrap();
        if answer.status() == 503 {
            break answer;
        }
    };
    assert_eq!(unready.headers()["connection"], "close");
    let chat = http.post(format!("{url}/v1/chat/completions")).json(&chat_body(json!({})));
    let answer = chat.send().await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["connection"]),
        (200.try_into().unwrap(), &"close".parse().unwrap())
    );
    ended(served).await;
    assert!(http.get(format!("{url}/livez")).send().await.is_err(), "nobody listens any more");
}

/// The stream loses its home after the signal, and its new home is set only then.
#[tokio::test]
async fn a_stopping_router_is_still_told_its_homes_and_finishes_its_streams() {
    let mut first = ScriptedAgent::start("a", reasoning_answer(), vec![Act::HangAfter(2)]);
    let second = ScriptedAgent::start("b", reasoning_answer(), vec![]);
    let patience = Patience { shutdown: WAIT, ..patience() };
    let (mut world, served) = served(patience, &first).await;
    let body = chat_body(json!({"stream": true}));
    let mut response = world.post("/v1/chat/completions", &body).await;
    let mut text = String::new();
    while !text.contains("plus") {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    let (sender, _) = tokio::sync::oneshot::channel();
    std::mem::replace(&mut world.stop, sender).send(()).unwrap();
    let deadline = std::time::Instant::now() + WAIT;
    while tokio::net::TcpStream::connect(world.url.trim_start_matches("http://")).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "connections are still taken");
    }
    first.kill();
    world.set_homes(2, &[&second]).await;
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let streamed = Streamed::parse(&text);
    assert!(streamed.done, "{text}");
    assert_eq!(streamed.text(0, "content"), "four 🦀");
    drop(response);
    ended(served).await;
}

#[tokio::test]
async fn a_sleeping_deployment_holds_requests_until_it_wakes() {
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![]);
    let patience = Patience {
        keep_alive: Duration::from_millis(50),
        response_start: Duration::ZERO,
        ..patience()
    };
    let config = RouterConfig { patience, held_max: 2, ..RouterConfig::default() };
    let mut world = World::start(config).await;
    world.set_homes(1, &[]).await;
    let stream = chat_body(json!({"stream": true}));
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut response = world.post("/v1/chat/completions", &stream).await;
        assert_eq!(response.chunk().await.unwrap().unwrap(), ": keep-alive\n\n");
        streams.push(response);
    }
    let status = world.status().await;
    assert_eq!((status.requests_held, status.idle_seconds, status.window_requests), (2, 0, 2));
    let refused = world.post("/v1/chat/completions", &chat_body(json!({}))).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    world.set_homes(2, &[&agent]).await;
    for response in streams {
        let streamed = Streamed::parse(&response.text().await.unwrap());
        assert!(streamed.done);
        assert_eq!(streamed.text(0, "content"), "four 🦀");
    }
    while world.status().await.requests_in_flight > 0 {
        tokio::task::yield_now().await;
    }
    let status = world.status().await;
    assert_eq!(status.requests_held, 0);
    assert!(status.time_to_first_token_p90_seconds > 0.0, "{status:?}");
    assert!(status.time_per_output_token_p90_seconds > 0.0, "{status:?}");
    assert_eq!(status.generation_tokens_total, 12);
    assert_eq!(status.window_seconds, 30);
    assert!(!status.version.is_empty());
}

#[tokio::test]
async fn a_held_request_is_refused_when_the_hold_is_over() {
    let patience = Patience { hold: Duration::from_millis(100), ..patience() };
    let mut world = World::start(RouterConfig { patience, ..RouterConfig::default() }).await;
    world.set_homes(1, &[]).await;
    let refused = world.post("/v1/chat/completions", &chat_body(json!({}))).await;
    assert_eq!(refused.status(), 503);
    let text = refused.text().await.unwrap();
    assert!(text.contains("the set of homes is empty"), "{text}");
    assert_eq!(world.status().await.requests_held, 0);
}
