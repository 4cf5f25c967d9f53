use crate::cluster::{Cluster, DEPLOYMENT, TestAgent};
use bytes::Bytes;
use proto::exchange::ExchangeFrame;
use proto::exchange::exchange_client::ExchangeClient;
use proto::v1::exchange_header::Body;
use proto::v1::{
    CallErrorCode, DispatchHeader, ExchangeHeader, ExpertRows, HelloHeader, RowFormat,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

const HIDDEN: usize = 256;
const ROW_BYTES: usize = HIDDEN * 2;

pub fn hello() -> HelloHeader {
    HelloHeader {
        deployment: DEPLOYMENT.into(),
        agent_id: "visitor".into(),
        generation: 1,
        row_format: RowFormat::Bf16.into(),
        row_length: HIDDEN as u32,
        fingerprint: String::new(),
    }
}

fn frame(call_id: u64, body: Body, rows: Bytes) -> ExchangeFrame {
    ExchangeFrame { header: ExchangeHeader { call_id, body: Some(body) }, rows }
}

pub fn dispatch(expert: u32, rows: Vec<u32>) -> DispatchHeader {
    let experts = vec![ExpertRows { expert, rows }];
    DispatchHeader { layer: 1, row_count: 2, experts, deadline_ms: 10_000 }
}

/// A stream as a peer has it.
pub struct Visitor {
    calls: mpsc::Sender<ExchangeFrame>,
    answers: Streaming<ExchangeFrame>,
    next_call_id: u64,
}

impl Visitor {
    pub async fn open(agent: &TestAgent, hello: HelloHeader) -> Result<Self, Status> {
        let (calls, stream) = mpsc::channel(4);
        calls.send(frame(0, Body::Hello(hello), Bytes::new())).await.unwrap();
        let mut client = ExchangeClient::new(agent.channel().await);
        let mut answers = client.run(ReceiverStream::new(stream)).await?.into_inner();
        let first = answers.message().await?.unwrap();
        assert!(matches!(first.header.body, Some(Body::Hello(_))), "{first:?}");
        Ok(Self { calls, answers, next_call_id: 7 })
    }

    pub async fn call(&mut self, header: DispatchHeader, rows: Bytes) -> ExchangeFrame {
        self.next_call_id += 1;
        self.calls.send(frame(self.next_call_id, Body::Dispatch(header), rows)).await.unwrap();
        let answer = self.answers.message().await.unwrap().unwrap();
        assert_eq!(answer.header.call_id, self.next_call_id);
        answer
    }

    async fn refused(&mut self, header: DispatchHeader, rows: Bytes) -> CallErrorCode {
        match self.call(header, rows).await.header.body {
            Some(Body::Error(error)) => error.code(),
            body => panic!("not refused: {body:?}"),
        }
    }
}

pub fn two_rows() -> Bytes {
    // bf16 1.0 and 2.0 all over.
    Bytes::from([[0x80, 0x3f].repeat(HIDDEN), [0x00, 0x40].repeat(HIDDEN)].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_gets_one_output_row_for_each_pair() {
    let cluster = Cluster::ready(2, 1).await;
    // Expert 1 of layer 1 is on agent 0, expert 0 on agent 1.
    let mut visitor = Visitor::open(&cluster.agents[0], hello()).await.unwrap();
    let both = visitor.call(dispatch(1, vec![1, 0, 1]), two_rows()).await;
    assert_eq!(both.rows.len(), 3 * ROW_BYTES);
    let row = |index: usize| both.rows.slice(index * ROW_BYTES..(index + 1) * ROW_BYTES);
    assert_eq!(row(0), row(2));
    assert_ne!(row(0), row(1));
    let alone = visitor.call(dispatch(1, vec![0]), two_rows()).await;
    assert_eq!(alone.rows, row(1));

    let not_resident = visitor.refused(dispatch(0, vec![0]), two_rows()).await;
    assert_eq!(not_resident, CallErrorCode::NotResident);
    let invalid = CallErrorCode::Invalid;
    assert_eq!(visitor.refused(dispatch(1, vec![2]), two_rows()).await, invalid);
    assert_eq!(visitor.refused(dispatch(1, vec![0]), two_rows().slice(1..)).await, invalid);
    let nothing = DispatchHeader { experts: Vec::new(), ..dispatch(1, vec![]) };
    assert_eq!(visitor.refused(nothing, two_rows()).await, invalid);
    let flood = dispatch(1, vec![0; 130_000]);
    assert_eq!(visitor.refused(flood, two_rows()).await, invalid);
    // The stream is as good as before.
    assert_eq!(visitor.call(dispatch(1, vec![0]), two_rows()).await.rows, row(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let cluster = Cluster::ready(1, 1).await;
    let agent = &cluster.agents[0];
    let refused = |hello: HelloHeader| async move {
        let error = Visitor::open(agent, hello).await.err().unwrap();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        error.message().to_owned()
    };
    let message = refused(HelloHeader { deployment: "other".into(), ..hello() }).await;
    assert!(message.contains("other") && message.contains(DEPLOYMENT), "{message}");
    let message = refused(HelloHeader { row_format: RowFormat::F32.into(), ..hello() }).await;
    assert!(message.contains("F32") && message.contains("BF16"), "{message}");
    refused(HelloHeader { row_length: 7, ..hello() }).await;
    refused(HelloHeader { row_format: 99, ..hello() }).await;
    let message = refused(HelloHeader { fingerprint: "other".into(), ..hello() }).await;
    assert!(message.contains("other") && message.contains("same files"), "{message}");
    Visitor::open(agent, hello()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_experts_is_unavailable() {
    let cluster = Cluster::idle(1, 1);
    let error = Visitor::open(&cluster.agents[0], hello()).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}
