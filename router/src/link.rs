//! One `Generate` call to one home, and what its end means.

use crate::config::Patience;
use crate::homes::{Condition, Lease};
use proto::refusal::{ERROR_CODE, ERROR_PARAM};
use proto::v1::generate_event::Event;
use proto::v1::generation_client::GenerationClient;
use proto::v1::{GenerateEvent, GenerateRequest};
use std::error::Error;
use std::future::Future;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

/// Largest event: the token ids of a prompt, up to five bytes each.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a call did not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The request can never work.
    Refused { message: String, param: Option<String>, code: Option<String> },
    /// The home's queue is full.
    Full { agent_id: String },
    /// The home did not take the sequence.
    Unavailable { agent_id: String, reason: String },
    /// The home had taken the sequence and will not finish it.
    Broken { agent_id: String, reason: String },
}

/// An open call. Dropping it cancels the sequence there.
#[derive(Debug)]
pub struct Link {
    lease: Lease,
    condition: watch::Receiver<Condition>,
    events: Streaming<GenerateEvent>,
    next: Expected,
}

/// The order of events that the contract promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Prompt,
    TokensOrFinished,
}

impl Link {
    /// Calls the leased home.
    pub async fn open(
        lease: Lease,
        request: GenerateRequest,
        patience: &Patience,
    ) -> Result<Self, Loss> {
        let mut client =
            GenerationClient::new(lease.channel()).max_decoding_message_size(EVENT_BYTES_MAX);
        let mut condition = lease.condition();
        let agent_id = lease.agent_id();
        let call = unless_silent(&mut condition, patience, client.generate(request)).await;
        let events = match call {
            Err(reason) => return Err(Loss::Unavailable { agent_id: agent_id.to_owned(), reason }),
            Ok(Err(status)) => {
                return Err(match classify(agent_id, &status) {
                    // It had not taken the sequence yet, so that nothing is lost.
                    Loss::Broken { agent_id, reason } => Loss::Unavailable { agent_id, reason },
                    loss => loss,
                });
            }
            Ok(Ok(response)) => response.into_inner(),
        };
        Ok(Self { lease, condition, events, next: Expected::Prompt })
    }

    pub fn agent_id(&self) -> &str {
        self.lease.agent_id()
    }

    /// Of the model that the home served when it was chosen.
    pub fn fingerprint(&self) -> &str {
        self.lease.fingerprint()
    }

    /// The next event, in the contract's order.
    pub async fn receive(&mut self, patience: &Patience) -> Result<Event, Loss> {
        let message = unless_silent(&mut self.condition, patience, self.events.message()).await;
        let event = match message {
            Err(reason) => return Err(self.broken(reason)),
            Ok(Err(status)) => {
                return Err(match classify(self.lease.agent_id(), &status) {
                    // It had taken the sequence. An engine that dies of a sequence answers UNAVAILABLE to it; that
                    // must count, or the sequence would go round and kill every home for ever.
                    Loss::Full { agent_id } => {
                        Loss::Broken { agent_id, reason: status.message().to_owned() }
                    }
                    Loss::Unavailable { agent_id, reason } => Loss::Broken { agent_id, reason },
                    loss => loss,
                });
            }
            Ok(Ok(None)) => return Err(self.broken("the stream ended early".to_owned())),
            Ok(Ok(Some(message))) => message.event,
        };
        match (event, self.next) {
            (Some(event @ Event::Prompt(_)), Expected::Prompt) => {
                self.next = Expected::TokensOrFinished;
                Ok(event)
            }
            (Some(event @ (Event::Tokens(_) | Event::Finished(_))), Expected::TokensOrFinished) => {
                Ok(event)
            }
            _ => Err(self.broken("the stream's events are out of order".to_owned())),
        }
    }

    fn broken(&self, reason: String) -> Loss {
        Loss::Broken { agent_id: self.lease.agent_id().to_owned(), reason }
    }
}

/// Waits for an answer until the home counts as lost; then the error says why.
async fn unless_silent<T>(
    condition: &mut watch::Receiver<Condition>,
    patience: &Patience,
    answer: impl Future<Output = T>,
) -> Result<T, String> {
    let since = Instant::now();
    tokio::select! {
        biased;
        answer = answer => Ok(answer),
        reason = lost(condition, patience, since) => Err(reason),
    }
}

/// Ends when a stream that has been silent since `since` should be given up.
async fn lost(
    condition: &mut watch::Receiver<Condition>,
    patience: &Patience,
    since: Instant,
) -> String {
    let wedged_at = since + patience.silence_with_status;
    let abandoned_at = since + patience.silence_without_status;
    loop {
        let gone = condition.borrow_and_update().gone();
        if gone && Instant::now() >= abandoned_at {
            return format!("silent, and {}", describe(&condition.borrow()));
        }
        let until = if gone { abandoned_at.min(wedged_at) } else { wedged_at };
        tokio::select! {
            changed = condition.changed() => {
                if changed.is_err() {
                    // The watch is over, which only happens to a home that nobody holds; we hold it.
                    return "its status is not followed any more".to_owned();
                }
            }
            () = sleep_until(until) => {
                if Instant::now() >= wedged_at {
                    let seconds = patience.silence_with_status.as_secs_f32();
                    return format!("silent for {seconds} s although its status is well");
                }
            }
        }
    }
}

fn describe(condition: &Condition) -> String {
    match condition {
        Condition::Lost { reason } => reason.clone(),
        Condition::Reported(report) => format!("its phase is {:?}", report.phase),
    }
}

/// What a status means for the sequence.
fn classify(agent_id: &str, status: &Status) -> Loss {
    let agent_id = agent_id.to_owned();
    let reason = format!("{:?}: {}", status.code(), status.message());
    // Statuses that were made here, from a failed connection, have a source; those that a home sent have none.
    if status.source().is_some() {
        return Loss::Broken { agent_id, reason };
    }
    match status.code() {
        Code::ResourceExhausted => Loss::Full { agent_id },
        Code::InvalidArgument | Code::OutOfRange => Loss::Refused {
            message: status.message().to_owned(),
            param: text(status.metadata(), ERROR_PARAM),
            code: text(status.metadata(), ERROR_CODE),
        },
        // Draining, loading, serving another model by now, or an older agent: another home may do.
        Code::Unavailable
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated => Loss::Unavailable { agent_id, reason },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => Loss::Broken { agent_id, reason },
    }
}

fn text(metadata: &MetadataMap, key: &str) -> Option<String> {
    metadata.get(key).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
