//! What one hop of the exchange costs with and without mutual TLS, on this machine's loopback.
//!
//! `cargo run --release -p proto --example hop`

#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../tests/it/tls/pki.rs"]
mod pki;
#[allow(dead_code)]
#[path = "../tests/it/tls/world.rs"]
mod world;

use bytes::Bytes;
use pki::{Authority, agent};
use proto::tls::{Expected, Security};
use std::time::{Duration, Instant};
use world::{EchoStream, TestServer};

/// Bytes of one row of 7 168 bf16 values.
const ROW_BYTES: usize = 14_336;
const ROUNDS: usize = 5;
const CALLS: u32 = 400;
const WARM_UP: usize = 50;

struct Way {
    name: &'static str,
    server: TestServer,
    security: Security,
    stream: EchoStream,
}

impl Way {
    async fn open(name: &'static str, security: Security) -> Self {
        let server = TestServer::start(&security).await;
        let stream = EchoStream::open(server.channel(&security, &Expected::OwnAgents)).await;
        Self { name, server, security, stream: stream.unwrap() }
    }

    async fn call(&mut self, rows: &Bytes) -> Duration {
        let begin = Instant::now();
        self.stream.echo_rows(1, rows.clone()).await.unwrap();
        begin.elapsed()
    }
}

#[tokio::main]
async fn main() {
    let secured = Authority::new("bench").security(&agent("a"));
    let plaintext = Way::open("plaintext", Security::Plaintext).await;
    let mut ways = [plaintext, Way::open("mutual TLS", secured).await];
    println!("{:>6} {:>12} {:>10} {:>10}", "rows", "", "median", "p99");
    for rows in [1, 16, 64] {
        let rows_bytes = Bytes::from(vec![7; rows * ROW_BYTES]);
        let mut times = [Vec::new(), Vec::new()];
        // In turns, so that whatever else the machine does meets both.
        for _ in 0..ROUNDS {
            for (way, times) in ways.iter_mut().zip(&mut times) {
                for _ in 0..WARM_UP {
                    way.call(&rows_bytes).await;
                }
                for _ in 0..CALLS {
                    times.push(way.call(&rows_bytes).await);
                }
            }
        }
        for (way, mut times) in ways.iter().zip(times) {
            times.sort();
            let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            println!("{rows:>6} {:>12} {median:>10.1?} {late:>10.1?}", way.name);
        }
    }
    for way in &ways {
        let begin = Instant::now();
        for _ in 0..CALLS {
            way.server.echo(&way.security, &Expected::OwnAgents).await.unwrap();
        }
        println!("new connection, one call: {:>12} {:.1?}", way.name, begin.elapsed() / CALLS);
    }
}
