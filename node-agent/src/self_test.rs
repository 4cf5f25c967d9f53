//! One token through the whole path, peers included, before the first request.

use crate::board::Board;
use crate::driver::{Command, EngineGone};
use crate::limits::SELF_TEST_REMINDER;
use crate::serving::Serving;
use engine::engine::SubmitError;
use engine::request::{EndOfSequence, Request, Sampling, SequenceEvent, Stop};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Every model has this token.
const PROBE_TOKEN_ID: u32 = 0;

/// Admission, one token, the end.
const EVENTS_MAX: usize = 3;

#[derive(Debug, thiserror::Error)]
enum SelfTestError {
    #[error("the self-test token was not taken")]
    NotTaken(#[from] SubmitError),
    #[error("the self-test token failed: {message}")]
    Failed { message: String },
    #[error(transparent)]
    Engine(#[from] EngineGone),
}

/// Sets the phase to READY, or to FAILED with the reason.
pub async fn run(serving: Arc<Serving>, board: Arc<Board>) {
    match probe(&serving, &board).await {
        Ok(()) => {
            tracing::info!("the self-test token went through");
            serving.set_tested();
            board.ready();
        }
        Err(error) => {
            let reason = crate::describe(&error);
            tracing::error!(reason, "the self-test failed");
            board.failed(&reason);
        }
    }
}

async fn probe(serving: &Serving, board: &Board) -> Result<(), SelfTestError> {
    let (events, mut answers) = mpsc::channel(EVENTS_MAX);
    let (accepted, taken) = oneshot::channel();
    let request = Box::new(one_greedy_token());
    serving.commands.send(Command::Submit { request, events, accepted }).await?;
    taken.await.map_err(|_| EngineGone)??;
    loop {
        match timeout(SELF_TEST_REMINDER, answers.recv()).await {
            Ok(Some(SequenceEvent::Admitted { .. } | SequenceEvent::Token(_))) => {}
            Ok(Some(SequenceEvent::Finished { .. })) => return Ok(()),
            Ok(Some(SequenceEvent::Failed { message })) => {
                return Err(SelfTestError::Failed { message });
            }
            Ok(None) => return Err(EngineGone.into()),
            Err(_) => {
                let troubles = board.snapshot().troubles;
                tracing::warn!(?troubles, "the self-test still waits for peers' experts");
            }
        }
    }
}

/// The smallest request there is.
pub fn one_greedy_token() -> Request {
    Request {
        prompt_token_ids: vec![PROBE_TOKEN_ID],
        emitted_token_ids: Vec::new(),
        sampling: Sampling {
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
            top_logprobs: None,
        },
        stop: Stop {
            max_tokens: 1,
            strings: Vec::new(),
            token_ids: Vec::new(),
            end_of_sequence: EndOfSequence::Stop,
        },
    }
}
