//! A server that echoes exchange frames and implements nothing else, and calls to it.

use bytes::Bytes;
use proto::exchange::ExchangeFrame;
use proto::exchange::exchange_client::ExchangeClient;
use proto::exchange::exchange_server::{Exchange, ExchangeServer};
use proto::tls::{Expected, Security};
use proto::v1::{AgentStatus, GetStatusRequest};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// Bound of every wait: far above what any of them takes on a loaded machine.
pub const WAIT: Duration = Duration::from_secs(60);

/// Dropping it ends the server.
pub struct TestServer {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Echo;

#[tonic::async_trait]
impl Exchange for Echo {
    type RunStream = ReceiverStream<Result<ExchangeFrame, Status>>;

    async fn run(
        &self,
        request: Request<Streaming<ExchangeFrame>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let mut frames = request.into_inner();
        let (sender, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                if sender.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl TestServer {
    pub async fn start(security: &Security) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = security.incoming(listener);
        let router =
            Server::builder().layer(security.authorise()).add_service(ExchangeServer::new(Echo));
        let task = tokio::spawn(async move {
            router.serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, task }
    }

    pub fn channel(&self, client: &Security, expected: &Expected) -> Channel {
        client.lazy(&endpoint(self.address), expected)
    }

    /// One frame there and back on a new connection.
    pub async fn echo(&self, client: &Security, expected: &Expected) -> Result<(), Status> {
        let mut stream = EchoStream::open(self.channel(client, expected)).await?;
        stream.echo(1).await
    }

    /// Calls any method with an empty message. `Unimplemented` is what the server says to everything that it lets
    /// through, the exchange excepted.
    pub async fn call(&self, client: &Security, expected: &Expected, path: &str) -> Status {
        let mut grpc = tonic::client::Grpc::new(self.channel(client, expected));
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<GetStatusRequest, AgentStatus>::default();
        let path: PathAndQuery = path.parse().unwrap();
        let call = grpc.unary(Request::new(GetStatusRequest {}), path, codec);
        match tokio::time::timeout(WAIT, call).await.unwrap() {
            Ok(_) => Status::new(Code::Ok, "answered"),
            Err(status) => status,
        }
    }
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

/// A long-lived exchange.
pub struct EchoStream {
    outgoing: mpsc::Sender<ExchangeFrame>,
    incoming: Streaming<ExchangeFrame>,
}

impl EchoStream {
    pub async fn open(channel: Channel) -> Result<Self, Status> {
        let (outgoing, frames) = mpsc::channel(1);
        let run = async { ExchangeClient::new(channel).run(ReceiverStream::new(frames)).await };
        let incoming = tokio::time::timeout(WAIT, run).await.unwrap()?.into_inner();
        Ok(Self { outgoing, incoming })
    }

    pub async fn echo(&mut self, call_id: u64) -> Result<(), Status> {
        self.echo_rows(call_id, Bytes::from_static(&[7; 4096])).await
    }

    pub async fn echo_rows(&mut self, call_id: u64, rows: Bytes) -> Result<(), Status> {
        let mut frame = ExchangeFrame { rows, ..Default::default() };
        frame.header.call_id = call_id;
        self.outgoing.send(frame.clone()).await.map_err(|_| Status::unavailable("broken"))?;
        let answer = tokio::time::timeout(WAIT, self.incoming.message()).await.unwrap()?;
        assert_eq!(answer, Some(frame));
        Ok(())
    }
}

/// A status and everything below it.
pub fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
