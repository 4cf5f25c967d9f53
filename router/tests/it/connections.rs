//! What a client may do with a connection before it has sent a request.

use crate::agent::{Act, ScriptedAgent};
use crate::world::{WAIT, World, chat_body, patience, reasoning_answer};
use router::{Patience, RouterConfig};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap()
}

/// Everything until the router closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    timeout(WAIT, stream.read_to_end(&mut all)).await.expect("the router closes it").unwrap();
    String::from_utf8(all).unwrap()
}

/// Long enough for a client that sends at once on a loaded machine.
const HEADER_WAIT: Duration = Duration::from_secs(1);

async fn impatient() -> World {
    let patience = Patience { header: HEADER_WAIT, ..patience() };
    World::start(RouterConfig { patience, ..RouterConfig::default() }).await
}

#[tokio::test]
async fn headers_that_never_end_lose_their_connection() {
    let world = impatient().await;
    let mut streams = Vec::new();
    for sent in ["", "P", "PRI * HTTP/2.0\r\n", "GET /health HTTP/1.1\r\nHost:"] {
        let mut stream = connect(&world).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        streams.push((sent, stream));
    }
    for (sent, mut stream) in streams {
        let answer = until_closed(&mut stream).await;
        assert!(!answer.contains("200 OK"), "{sent:?}: {answer}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let world = impatient().await;
    let mut stream = connect(&world).await;
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: boyle\r\n\r\n").await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn an_answer_may_take_longer_than_headers() {
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![Act::Hang]);
    let keep_alive = Duration::from_millis(100);
    let response_start = Duration::ZERO;
    let patience = Patience { header: HEADER_WAIT, keep_alive, response_start, ..patience() };
    let world = World::with(patience, &[&agent]).await;
    let body = chat_body(json!({"stream": true}));
    let mut response = world.post("/v1/chat/completions", &body).await;
    let comments_during_wait = HEADER_WAIT.as_millis() / keep_alive.as_millis();
    for _ in 0..2 * comments_during_wait {
        assert_eq!(response.chunk().await.unwrap().unwrap(), ": keep-alive\n\n");
    }
}

#[tokio::test]
async fn headers_larger_than_the_buffer_are_refused() {
    let world = World::start(RouterConfig::default()).await;
    let mut stream = connect(&world).await;
    let request = format!("GET /health HTTP/1.1\r\nX-Large: {}", "a".repeat(128 * 1024));
    // The router may close it before all is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut start = [0_u8; 12];
    timeout(WAIT, stream.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
}
