//! Our calls to one peer: one long-lived stream, opened again whenever it breaks.

use super::wire::{Hello, HelloError, dispatch_frame, failure_of};
use crate::driver::{Command, Commands, EngineGone};
use crate::limits::{
    CONNECT_TIMEOUT, HELLO_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LINK_OUTGOING_MAX,
    LINK_PENDING_MAX, RECONNECT_MAX, RECONNECT_MIN,
};
use crate::metrics::Metrics;
use engine::exchange::{CallFailure, PeerId, Transmit};
use proto::exchange::ExchangeFrame;
use proto::exchange::exchange_client::ExchangeClient;
use proto::limits::{
    CONNECTION_WINDOW_BYTES, EXCHANGE_FRAME_BYTES_MAX, HTTP2_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use proto::tls::{Expected, Security};
use proto::v1::exchange_header::Body;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

/// A peer and where it is.
#[derive(Clone, Debug)]
pub struct Link {
    pub peer: PeerId,
    pub address: String,
    pub hello: Hello,
    pub commands: Commands,
    pub metrics: Arc<Metrics>,
    pub security: Security,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot connect to {address}")]
    Connect { address: String, source: tonic::transport::Error },
    #[error("{address} does not answer within {} ms", CONNECT_TIMEOUT.as_millis())]
    ConnectTimeout { address: String },
    #[error("no hello from {address} within {} ms", HELLO_TIMEOUT.as_millis())]
    HelloTimeout { address: String },
    #[error("{address} refuses the exchange: {}", status.message())]
    Refused { address: String, status: Status },
    #[error("{address} closed the stream")]
    Closed { address: String },
    #[error("{address} broke the protocol: an answer that is none")]
    Garbled { address: String },
    #[error("{address} cannot be a peer")]
    Hello { address: String, source: HelloError },
}

/// Both directions of an open stream.
struct Stream {
    outgoing: mpsc::Sender<ExchangeFrame>,
    incoming: Streaming<ExchangeFrame>,
}

/// Nobody needs the link any more.
struct Unneeded;

impl From<EngineGone> for Unneeded {
    fn from(_: EngineGone) -> Self {
        Self
    }
}

impl Link {
    /// Serves calls until the engine is gone. While there is no stream, calls fail at once.
    pub async fn run(self, mut calls: mpsc::Receiver<Transmit>) {
        // The only way out: `Unneeded`.
        let _ = self.keep_open(&mut calls).await;
    }

    async fn keep_open(&self, calls: &mut mpsc::Receiver<Transmit>) -> Result<(), Unneeded> {
        let mut pause = RECONNECT_MIN;
        let mut last_reason = String::new();
        loop {
            let error = match self.refuse_during(calls, self.connect()).await? {
                Ok(stream) => {
                    tracing::info!(peer = self.peer.0, address = self.address, "exchange is open");
                    self.commands.send(Command::PeerUp(self.peer.clone())).await?;
                    pause = RECONNECT_MIN;
                    last_reason.clear();
                    self.forward(stream, calls).await?
                }
                Err(error) => error,
            };
            let reason = crate::describe(&error);
            // The same reason again is no news.
            if reason != last_reason {
                tracing::warn!(peer = self.peer.0, reason, "no exchange with this peer");
                let peer = self.peer.clone();
                self.commands.send(Command::PeerDown { peer, reason: reason.clone() }).await?;
                last_reason = reason;
            }
            self.refuse_during(calls, tokio::time::sleep(pause)).await?;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    /// Waits for `future`; calls that come meanwhile fail at once, so that another copy is asked.
    async fn refuse_during<T>(
        &self,
        calls: &mut mpsc::Receiver<Transmit>,
        future: impl Future<Output = T>,
    ) -> Result<T, Unneeded> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                output = &mut future => return Ok(output),
                call = calls.recv() => {
                    let call = call.ok_or(Unneeded)?;
                    let failure = CallFailure::ConnectionLost("no stream is open".into());
                    self.reply(call.call_id, Err(failure)).await?;
                }
            }
        }
    }

    async fn connect(&self) -> Result<Stream, LinkError> {
        let address = || self.address.clone();
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|source| LinkError::Connect { address: address(), source })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES_MAX)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel =
            timeout(CONNECT_TIMEOUT, self.security.connect(&endpoint, &Expected::OwnAgents))
                .await
                .map_err(|_| LinkError::ConnectTimeout { address: address() })?
                .map_err(|source| LinkError::Connect { address: address(), source })?;
        let client = ExchangeClient::new(channel)
            .max_decoding_message_size(EXCHANGE_FRAME_BYTES_MAX)
            .max_encoding_message_size(EXCHANGE_FRAME_BYTES_MAX);
        timeout(HELLO_TIMEOUT, self.greet(client))
            .await
            .map_err(|_| LinkError::HelloTimeout { address: address() })?
    }

    async fn greet(
        &self,
        mut client: ExchangeClient<tonic::transport::Channel>,
    ) -> Result<Stream, LinkError> {
        let address = || self.address.clone();
        let refused = |status| LinkError::Refused { address: address(), status };
        let (outgoing, frames) = mpsc::channel(LINK_OUTGOING_MAX);
        // There is room: the channel is new.
        let _ = outgoing.try_send(self.hello.frame());
        let response = client.run(ReceiverStream::new(frames)).await.map_err(refused)?;
        let mut incoming = response.into_inner();
        let first = incoming.message().await.map_err(refused)?;
        let first = first.ok_or_else(|| LinkError::Closed { address: address() })?;
        let found = self
            .hello
            .check(&first)
            .map_err(|source| LinkError::Hello { address: address(), source })?;
        if found != self.peer.0 {
            let source = HelloError::Agent { found, expected: self.peer.0.clone() };
            return Err(LinkError::Hello { address: address(), source });
        }
        Ok(Stream { outgoing, incoming })
    }

    /// Calls out, answers in, until the stream breaks; returns why it did.
    async fn forward(
        &self,
        stream: Stream,
        calls: &mut mpsc::Receiver<Transmit>,
    ) -> Result<LinkError, Unneeded> {
        let Stream { outgoing, mut incoming } = stream;
        // Calls without an answer: anything else that comes is not passed on.
        let mut pending = BTreeMap::new();
        loop {
            let next_call = async {
                let place = outgoing.reserve().await.ok();
                (place, calls.recv().await)
            };
            tokio::select! {
                (place, call) = next_call => {
                    let call = call.ok_or(Unneeded)?;
                    let call_id = call.call_id;
                    match (place, dispatch_frame(call)) {
                        (Some(place), Ok(frame)) => {
                            remember(&mut pending, call_id);
                            place.send(frame);
                        }
                        (Some(_), Err(failure)) => self.reply(call_id, Err(failure)).await?,
                        // The stream broke; the incoming side says why.
                        (None, _) => {
                            let failure = CallFailure::ConnectionLost("the stream broke".into());
                            self.reply(call_id, Err(failure)).await?;
                        }
                    }
                }
                frame = incoming.message() => match frame {
                    Ok(Some(frame)) => {
                        if let Some(error) = self.deliver(frame, &mut pending).await? {
                            return Ok(error);
                        }
                    }
                    Ok(None) => return Ok(LinkError::Closed { address: self.address.clone() }),
                    Err(status) => {
                        return Ok(LinkError::Refused { address: self.address.clone(), status });
                    }
                },
            }
        }
    }

    async fn deliver(
        &self,
        frame: ExchangeFrame,
        pending: &mut BTreeMap<u64, Instant>,
    ) -> Result<Option<LinkError>, Unneeded> {
        let call_id = frame.header.call_id;
        let reply = match frame.header.body {
            Some(Body::Combine(_)) => Ok(Vec::from(frame.rows)),
            Some(Body::Error(error)) => Err(failure_of(error)),
            Some(Body::Dispatch(_) | Body::Hello(_)) | None => {
                return Ok(Some(LinkError::Garbled { address: self.address.clone() }));
            }
        };
        if let Some(sent) = pending.remove(&call_id) {
            self.metrics.exchange_seconds.observe(sent.elapsed().as_secs_f64());
            self.reply(call_id, reply).await?;
        }
        Ok(None)
    }

    async fn reply(
        &self,
        call_id: u64,
        reply: Result<Vec<u8>, CallFailure>,
    ) -> Result<(), EngineGone> {
        self.commands.send(Command::Reply { peer: self.peer.clone(), call_id, reply }).await
    }
}

fn remember(pending: &mut BTreeMap<u64, Instant>, call_id: u64) {
    if pending.len() >= LINK_PENDING_MAX {
        // Call ids ascend, so the first is the oldest; nobody waits for it any more.
        pending.pop_first();
    }
    pending.insert(call_id, Instant::now());
}
