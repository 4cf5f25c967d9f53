//! Bytes that no honest peer sends, on every door of a serving agent.

use crate::cluster::{Cluster, TestAgent, questions};
use crate::peer_calls::{Visitor, dispatch, hello, two_rows};
use bytes::{Buf, BufMut, Bytes};
use proto::exchange::{ExchangeFrame, MAGIC};
use proto::limits::EXCHANGE_FRAME_BYTES_MAX;
use proto::v1::ExchangeHeader;
use proto::v1::exchange_header::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

/// Sends and takes bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

/// Sends messages to a method and returns how the call ended.
async fn send(agent: &TestAgent, path: &'static str, messages: Vec<Bytes>) -> Status {
    let mut client = Grpc::new(agent.channel().await);
    client.ready().await.unwrap();
    let stream = Request::new(tokio_stream::iter(messages));
    let path = PathAndQuery::from_static(path);
    let mut answers = match client.streaming(stream, path, Raw).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok(""),
            Err(status) => return status,
        }
    }
}

const RUN: &str = "/boyle.v1.Exchange/Run";

fn hello_bytes() -> Bytes {
    let header = ExchangeHeader { call_id: 0, body: Some(Body::Hello(hello())) };
    let mut bytes = Vec::new();
    ExchangeFrame { header, rows: Bytes::new() }.encode(&mut bytes).unwrap();
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_gets_a_status_and_ends_nothing() {
    let question = &questions(1)[0];
    let cluster = Cluster::ready(2, 1).await;
    let agent = &cluster.agents[0];
    let expected = agent.ask(question).await;
    let mut running = agent.generate(crate::cluster::question_request(question)).await.unwrap();
    running.read_tokens(1).await;
    let mut visitor = Visitor::open(agent, hello()).await.unwrap();

    let status = |messages| send(agent, RUN, messages);
    let garbage = Bytes::from_static(b"no frame at all");
    assert_eq!(status(vec![garbage.clone()]).await.code(), Code::InvalidArgument);
    assert_eq!(status(vec![hello_bytes(), garbage]).await.code(), Code::InvalidArgument);
    let cut = Bytes::copy_from_slice(&MAGIC.to_le_bytes());
    assert_eq!(status(vec![hello_bytes(), cut]).await.code(), Code::DataLoss);
    assert_eq!(status(vec![]).await.code(), Code::InvalidArgument);
    assert_eq!(status(vec![hello_bytes(), hello_bytes()]).await.code(), Code::InvalidArgument);
    let oversize = Bytes::from(vec![0; EXCHANGE_FRAME_BYTES_MAX + 1]);
    assert_eq!(status(vec![hello_bytes(), oversize]).await.code(), Code::OutOfRange);
    let noise = Bytes::from_static(&[0xff; 40]);
    for path in ["/boyle.v1.Generation/Generate", "/boyle.v1.Agent/Assign"] {
        assert_eq!(send(agent, path, vec![noise.clone()]).await.code(), Code::Internal);
    }
    let mut socket = TcpStream::connect(&agent.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n\xff\xff\xff\xff").await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset, as the server likes.
    let _ = socket.read_to_end(&mut answer).await;

    assert_eq!(running.finish().await, expected);
    visitor.call(dispatch(1, vec![0]), two_rows()).await;
    assert_eq!(agent.ask(question).await, expected);
}
