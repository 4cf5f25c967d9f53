//! The engine's thread: commands in, events and frames out, in the loop that `engine::engine` describes.

use crate::board::{Board, EngineReport};
use crate::limits::{COMMANDS_MAX, IDLE_WAIT_MAX, REPORT_INTERVAL};
use crate::metrics::Metrics;
use engine::engine::{Advance, Engine, Now, SubmitError};
use engine::exchange::{CallFailure, PeerId, Placement, Transmit};
use engine::request::{Request, SequenceEvent, SequenceId};
use model::executor::{Pulse, SharedExperts};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// What others want of the engine.
#[derive(Debug)]
pub enum Command {
    Submit {
        request: Box<Request>,
        /// Takes every event of the sequence without waiting: its capacity is what the sequence can emit.
        events: mpsc::Sender<SequenceEvent>,
        accepted: oneshot::Sender<Result<SequenceId, SubmitError>>,
    },
    Reply {
        peer: PeerId,
        call_id: u64,
        reply: Result<Vec<u8>, CallFailure>,
    },
    PeerUp(PeerId),
    PeerDown {
        peer: PeerId,
        reason: String,
    },
    /// Where calls to each peer go from now on.
    Links(BTreeMap<PeerId, mpsc::Sender<Transmit>>),
    Placement(Placement, SharedExperts),
    Cancel(SequenceId),
}

/// Commands to one engine.
#[derive(Clone, Debug)]
pub struct Commands {
    sender: Sender<Queued>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Queued {
    command: Command,
    /// Given back when the engine takes the command.
    _room: Option<OwnedSemaphorePermit>,
}

/// The engine's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineGone;

impl Commands {
    /// Waits for room.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn send(&self, command: Command) -> Result<(), EngineGone> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| EngineGone)?;
        self.sender.send(Queued { command, _room: Some(room) }).map_err(|_| EngineGone)
    }

    /// Ends a sequence, at once and from anywhere. There are no more of these than sequences, so they need no room.
    pub fn cancel(&self, sequence: SequenceId) {
        // An engine that is gone has no sequences.
        let _ = self.sender.send(Queued { command: Command::Cancel(sequence), _room: None });
    }
}

/// Who hears of the engine.
#[derive(Clone, Debug)]
pub struct Hooks {
    pub board: Arc<Board>,
    pub metrics: Arc<Metrics>,
    /// The executor's; the thread's own rounds count too.
    pub pulse: Pulse,
    pub fatal: mpsc::Sender<String>,
}

/// Starts the thread. It ends when every [`Commands`] is dropped; when it panics, `fatal` hears the reason.
///
/// # Errors
/// When the system has no thread left.
pub fn start(engine: Engine, hooks: Hooks) -> std::io::Result<Commands> {
    let (sender, receiver) = channel();
    let room = Arc::new(Semaphore::new(COMMANDS_MAX));
    let driver = Driver {
        engine,
        commands: receiver,
        origin: Instant::now(),
        subscribers: BTreeMap::new(),
        links: BTreeMap::new(),
        hooks,
        reported: Duration::ZERO,
        pass: PassClock { passes: 0, began: Duration::ZERO },
    };
    let fatal = driver.hooks.fatal.clone();
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| driver.run())) {
            let reason = panic_text(&*panic);
            tracing::error!(reason, "the engine panicked");
            // A full channel holds an earlier reason, which is as good.
            let _ = fatal.try_send(reason);
        }
    })?;
    Ok(Commands { sender, room })
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").into()
}

/// How long the thread may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    No,
    AtMost(Duration),
}

/// Every command sender is gone.
struct Abandoned;

struct Driver {
    engine: Engine,
    commands: Receiver<Queued>,
    origin: Instant,
    subscribers: BTreeMap<SequenceId, mpsc::Sender<SequenceEvent>>,
    links: BTreeMap<PeerId, mpsc::Sender<Transmit>>,
    hooks: Hooks,
    reported: Now,
    pass: PassClock,
}

/// When the pass that runs began.
struct PassClock {
    /// Those before it.
    passes: u64,
    began: Now,
}

impl Driver {
    fn run(mut self) {
        let mut wait = Wait::No;
        while let Ok(()) = self.take_commands(wait) {
            let advance = self.engine.advance(self.now());
            let refused = self.send_transmits();
            self.deliver_events();
            wait = match advance {
                // Refused calls are news for the engine.
                _ if refused > 0 => Wait::No,
                Advance::Ran => Wait::No,
                Advance::Waiting { until } => Wait::AtMost(until.saturating_sub(self.now())),
                Advance::Idle => Wait::AtMost(IDLE_WAIT_MAX),
            };
            self.report(advance);
            self.hooks.pulse.beat();
        }
    }

    fn now(&self) -> Now {
        self.origin.elapsed()
    }

    /// Takes what is there, after waiting for the first of it.
    fn take_commands(&mut self, wait: Wait) -> Result<(), Abandoned> {
        if let Wait::AtMost(time) = wait {
            match self.commands.recv_timeout(time.min(IDLE_WAIT_MAX)) {
                Ok(queued) => self.apply(queued.command),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Abandoned),
            }
        }
        // Bounded, so that a step comes even when commands never end.
        for _ in 0..COMMANDS_MAX {
            match self.commands.try_recv() {
                Ok(queued) => self.apply(queued.command),
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(()),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(Abandoned),
            }
        }
        Ok(())
    }

    fn apply(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Submit { request, events, accepted } => {
                self.submit(*request, events, accepted);
            }
            Command::Cancel(sequence) => {
                self.subscribers.remove(&sequence);
                self.engine.cancel(sequence);
            }
            Command::Reply { peer, call_id, reply } => {
                self.engine.handle_reply(now, &peer, call_id, reply);
            }
            Command::PeerUp(peer) => self.engine.handle_peer_up(now, &peer),
            Command::PeerDown { peer, reason } => {
                self.engine.handle_peer_down(now, &peer, &reason);
            }
            Command::Links(links) => self.links = links,
            Command::Placement(placement, experts) => {
                self.engine.handle_placement(now, placement, experts);
            }
        }
    }

    fn submit(
        &mut self,
        request: Request,
        events: mpsc::Sender<SequenceEvent>,
        accepted: oneshot::Sender<Result<SequenceId, SubmitError>>,
    ) {
        let result = self.engine.submit(request);
        let submitted = result.as_ref().ok().copied();
        let heard = accepted.send(result).is_ok();
        match submitted {
            Some(sequence) if heard => {
                self.subscribers.insert(sequence, events);
            }
            // The caller went away before it knew the sequence's name.
            Some(sequence) => self.engine.cancel(sequence),
            None => {}
        }
    }

    /// A pass begins where the one before it ended, or after the last time without work.
    fn time_pass(&mut self, advance: Advance, now: Now) {
        let passes = self.engine.passes();
        if passes != self.pass.passes {
            let took = now.saturating_sub(self.pass.began);
            self.hooks.metrics.step_seconds.observe(took.as_secs_f64());
        }
        if passes != self.pass.passes || advance == Advance::Idle {
            self.pass = PassClock { passes, began: now };
        }
    }

    /// Hands calls to the links and returns how many of them failed at once.
    fn send_transmits(&mut self) -> usize {
        let mut refused = Vec::new();
        while let Some(transmit) = self.engine.poll_transmit() {
            let (peer, call_id) = (transmit.peer.clone(), transmit.call_id);
            let rows = u64::from(transmit.row_count);
            let failure = match self.links.get(&peer).map(|link| link.try_send(transmit)) {
                Some(Ok(())) => {
                    self.hooks.metrics.exchange_rows_sent.inc_by(rows);
                    continue;
                }
                Some(Err(TrySendError::Full(_))) => CallFailure::Overloaded,
                Some(Err(TrySendError::Closed(_))) | None => {
                    CallFailure::ConnectionLost("there is no link to this peer".into())
                }
            };
            refused.push((peer, call_id, failure));
        }
        let count = refused.len();
        for (peer, call_id, failure) in refused {
            self.engine.handle_reply(self.now(), &peer, call_id, Err(failure));
        }
        count
    }

    fn deliver_events(&mut self) {
        while let Some((sequence, event)) = self.engine.poll_event() {
            let ends = match event {
                SequenceEvent::Admitted { .. } | SequenceEvent::Token(_) => false,
                SequenceEvent::Finished { .. } | SequenceEvent::Failed { .. } => true,
            };
            let Some(events) = self.subscribers.get(&sequence) else { continue };
            let delivered = events.try_send(event).is_ok();
            if ends || !delivered {
                self.subscribers.remove(&sequence);
            }
            if !delivered {
                self.engine.cancel(sequence);
            }
        }
    }

    fn report(&mut self, advance: Advance) {
        let now = self.now();
        self.time_pass(advance, now);
        if advance == Advance::Idle || now.saturating_sub(self.reported) >= REPORT_INTERVAL {
            self.reported = now;
            let (load, troubles) = (self.engine.load(), self.engine.troubles());
            self.hooks.board.publish(EngineReport { load, troubles });
        }
    }
}

#[cfg(test)]
mod tests;
