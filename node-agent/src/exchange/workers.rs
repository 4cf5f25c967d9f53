//! The threads that run peers' rows through our experts.

use super::wire::{Call, code_of, combine_frame, error_frame};
use crate::driver::panic_text;
use crate::limits::EXPERT_JOBS_MAX;
use model::executor::SharedExperts;
use proto::exchange::ExchangeFrame;
use proto::v1::CallErrorCode;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::OwnedPermit;
use tonic::Status;

/// A place in the stream of answers to one peer, so that a worker never waits for a slow peer.
pub type AnswerPlace = OwnedPermit<Result<ExchangeFrame, Status>>;

/// One call and where its answer goes.
#[derive(Debug)]
pub struct Job {
    pub experts: SharedExperts,
    pub call: Call,
    /// When nobody waits for the answer any more.
    pub expires: Instant,
    pub answer: AnswerPlace,
}

/// A bounded queue and its threads, which end with it.
#[derive(Clone, Debug)]
pub struct Workers {
    jobs: SyncSender<Job>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let (jobs, receiver) = sync_channel(EXPERT_JOBS_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        for index in 0..count {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new()
                .name(format!("experts-{index}"))
                .spawn(move || while take(&receiver).map(work).is_some() {})?;
        }
        Ok(Self { jobs })
    }

    /// Queues a job, or answers that the queue is full.
    pub fn submit(&self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                let message = format!("{EXPERT_JOBS_MAX} calls wait already");
                let code = CallErrorCode::Overloaded;
                job.answer.send(Ok(error_frame(job.call.call_id, code, message)));
            }
            Err(TrySendError::Disconnected(job)) => {
                let code = CallErrorCode::Internal;
                job.answer.send(Ok(error_frame(job.call.call_id, code, "no worker is left")));
            }
        }
    }
}

fn take(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn work(job: Job) {
    let Job { experts, call, expires, answer } = job;
    if Instant::now() >= expires {
        tracing::debug!(call_id = call.call_id, "dropping a call whose deadline has passed");
        return;
    }
    // A panic is a fault of ours; it must cost this call and not the thread.
    let computed =
        catch_unwind(AssertUnwindSafe(|| experts.compute(call.layer, &call.calls, &call.rows)));
    let frame = match computed {
        Ok(Ok(rows)) => {
            let row_count = call.calls.iter().map(|call| call.rows.len()).sum();
            combine_frame(call.call_id, call.layer, row_count, rows)
        }
        Ok(Err(error)) => error_frame(call.call_id, code_of(&error), error.to_string()),
        Err(panic) => {
            tracing::error!(reason = panic_text(&*panic), layer = call.layer, "an expert panicked");
            error_frame(call.call_id, CallErrorCode::Internal, "the expert panicked")
        }
    };
    answer.send(Ok(frame));
}
