//! gRPC service `Exchange`: peers' rows in, outputs back.

use super::peer_calls::PeerCalls;
use super::wire::{Hello, error_frame, parse_dispatch};
use super::workers::{Job, Workers};
use crate::closing::{Closing, UntilClosing};
use crate::limits::{CALLS_PER_STREAM_MAX, HELLO_TIMEOUT};
use model::executor::SharedExperts;
use proto::exchange::ExchangeFrame;
use proto::exchange::exchange_server::Exchange;
use proto::v1::CallErrorCode;
use proto::v1::exchange_header::Body;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The experts that peers may call, and what we say of ourselves.
#[derive(Clone, Debug)]
pub struct Resident {
    pub hello: Hello,
    pub experts: SharedExperts,
}

/// The service; `resident` is empty before the first load.
#[derive(Debug)]
pub struct ExchangeService {
    pub resident: watch::Receiver<Option<Arc<Resident>>>,
    pub workers: Workers,
    pub calls: Arc<PeerCalls>,
    pub closing: Closing,
}

type Answer = Result<ExchangeFrame, Status>;
type AnswerStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

#[tonic::async_trait]
impl Exchange for ExchangeService {
    type RunStream = AnswerStream;

    async fn run(
        &self,
        request: Request<Streaming<ExchangeFrame>>,
    ) -> Result<Response<AnswerStream>, Status> {
        let mut frames = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, frames.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??
            .ok_or_else(|| Status::invalid_argument("the stream ended before its hello"))?;
        let resident = self
            .resident
            .borrow()
            .clone()
            .ok_or_else(|| Status::unavailable("this agent has no experts in memory yet"))?;
        if self.calls.is_withdrawn() {
            return Err(Status::unavailable("this agent is leaving"));
        }
        let peer = resident.hello.check(&first).map_err(|error| {
            tracing::warn!(reason = error.to_string(), "refusing a peer's stream");
            Status::failed_precondition(error.to_string())
        })?;
        tracing::debug!(peer, "a peer's stream is open");
        let (answers, answer_stream) = mpsc::channel(CALLS_PER_STREAM_MAX);
        // There is room: the channel is new.
        let _ = answers.try_send(Ok(resident.hello.frame()));
        let stream = PeerStream {
            resident: self.resident.clone(),
            workers: self.workers.clone(),
            calls: Arc::clone(&self.calls),
            answers,
        };
        tokio::spawn(stream.serve(frames));
        let answers = ReceiverStream::new(answer_stream);
        Ok(Response::new(Box::pin(UntilClosing::new(answers, self.closing.clone()))))
    }
}

/// One peer's calls.
struct PeerStream {
    resident: watch::Receiver<Option<Arc<Resident>>>,
    workers: Workers,
    calls: Arc<PeerCalls>,
    answers: mpsc::Sender<Answer>,
}

impl PeerStream {
    /// Reads calls until the peer or its stream ends.
    async fn serve(self, mut frames: Streaming<ExchangeFrame>) {
        let withdrawn = self.calls.withdrawn();
        tokio::pin!(withdrawn);
        loop {
            // A place for the answer first: a peer that does not read its answers is not read on either.
            let Ok(answer) = self.answers.clone().reserve_owned().await else { return };
            let frame = tokio::select! {
                frame = frames.message() => frame,
                () = self.answers.closed() => return,
                // Answers that are under way have places of their own; the stream ends after the last one.
                () = &mut withdrawn => return,
            };
            let outcome = match frame {
                Ok(Some(frame)) => self.take(frame, answer),
                Ok(None) => return,
                Err(status) => Err((status, answer)),
            };
            if let Err((status, answer)) = outcome {
                tracing::warn!(reason = status.message(), "closing a peer's stream");
                answer.send(Err(status));
                return;
            }
        }
    }

    fn take(
        &self,
        frame: ExchangeFrame,
        answer: super::workers::AnswerPlace,
    ) -> Result<(), (Status, super::workers::AnswerPlace)> {
        let call_id = frame.header.call_id;
        let Some(Body::Dispatch(header)) = frame.header.body else {
            return Err((Status::invalid_argument("only dispatches may follow the hello"), answer));
        };
        let Some(experts) = self.resident.borrow().as_ref().map(|it| Arc::clone(&it.experts))
        else {
            return Err((Status::unavailable("this agent has no experts in memory"), answer));
        };
        match parse_dispatch(call_id, header, frame.rows, &*experts) {
            Ok(call) => {
                self.calls.called();
                let expires = Instant::now() + call.deadline;
                self.workers.submit(Job { experts, call, expires, answer });
            }
            Err(refused) => {
                let code = CallErrorCode::Invalid;
                answer.send(Ok(error_frame(call_id, code, refused.to_string())));
            }
        }
        Ok(())
    }
}
