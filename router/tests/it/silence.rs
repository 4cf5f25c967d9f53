//! A home that is lost without a word: its packets vanish, its connections stay open.

use crate::agent::Act;
use crate::agent::ScriptedAgent;
use crate::world::{MODEL, Streamed, WAIT, World, chat_body, home, patience, reasoning_answer};
use proto::v1::{AgentPhase, SetHomesRequest};
use router::{Patience, RouterConfig};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// A network between router and agent that can be cut: nothing is closed, nothing arrives any more.
struct Wire {
    address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Wire {
    async fn to(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(agent).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, is_cut.clone()));
                tokio::spawn(carry(far_in, near_out, is_cut.clone()));
            }
        });
        Self { address, cut }
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut is_cut: watch::Receiver<bool>,
) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if is_cut.wait_for(|cut| !cut).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}

/// Statuses as a living agent sends them.
async fn heartbeat(agent: &ScriptedAgent) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        agent.set_status(AgentPhase::Ready, 0);
    }
}

#[tokio::test]
async fn the_stream_of_a_home_that_is_cut_off_goes_on_elsewhere_soon() {
    let status = Duration::from_secs(1);
    let patience = Patience { status, silence_without_status: status / 2, ..patience() };
    let first = ScriptedAgent::start("a", reasoning_answer(), vec![Act::HangAfter(2)]);
    let mut second = ScriptedAgent::start("b", reasoning_answer(), vec![]);
    let wire = Wire::to(first.address).await;
    let mut world = World::start(RouterConfig { patience, ..RouterConfig::default() }).await;
    let homes = vec![home("a", &wire.address.to_string()), home("b", &second.address.to_string())];
    let request = SetHomesRequest { generation: 1, model: MODEL.to_owned(), homes };
    world.control.set_homes(request).await.unwrap();
    let story = async {
        world.wait_for_ready(2).await;
        let body = chat_body(json!({"stream": true}));
        let mut response = world.post("/v1/chat/completions", &body).await;
        let mut text = String::new();
        while !text.contains("plus") {
            text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
        }
        wire.cut.send_replace(true);
        let cut = Instant::now();
        while let Some(chunk) = response.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        (Streamed::parse(&text), cut.elapsed())
    };
    let both = async { tokio::join!(heartbeat(&first), heartbeat(&second)) };
    let (streamed, stall) = tokio::select! {
        told = tokio::time::timeout(WAIT, story) => told.expect("the stream goes on"),
        never = both => match never.0 {},
    };
    assert!(streamed.done);
    assert_eq!(streamed.text(0, "content"), "four 🦀");
    assert!(stall >= status / 2, "silence alone is no loss");
    assert_eq!(second.request().await.emitted_token_ids, [1, 2]);
}

/// What the defaults promise: a few seconds for a loss without a word, and no status mistaken for one.
#[test]
fn the_defaults_are_quick_and_not_hasty() {
    let Patience { silence_without_status, status_late, status, .. } = Patience::default();
    let heartbeat = Duration::from_millis(900);
    assert!(status_late > heartbeat, "a status that is on time is never late");
    assert!(status > 2 * heartbeat, "one lost status is no loss of the home");
    assert!(status <= Duration::from_secs(3), "clients see this as a stall");
    assert!(silence_without_status <= status, "the status alone decides");
}
