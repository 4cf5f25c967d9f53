//! One child's place: the child itself, its predecessors' fate, and when the next one starts.

use super::child::Child;
use super::restart::Restarts;
use super::{ProcessConfig, ProcessError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A child that is kept alive.
#[derive(Debug)]
pub struct Slot {
    name: String,
    arguments: Vec<String>,
    child: Option<Child>,
    /// Where a predecessor listened.
    last_address: Option<SocketAddr>,
    restarts: Restarts,
    ending: Ending,
    changed: Arc<Notify>,
}

/// Whether the running child was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Unasked,
    Asked,
}

/// How the child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotCondition {
    /// Runs and has not said where it listens.
    Starting { pid: u32 },
    /// Runs and listens.
    Listening { pid: u32, control: Option<SocketAddr> },
    /// Does not run; a new one comes.
    Dead,
}

impl Slot {
    /// An empty place.
    pub fn new(name: &str, arguments: Vec<String>, changed: &Arc<Notify>) -> Self {
        Self {
            name: name.to_owned(),
            arguments,
            child: None,
            last_address: None,
            restarts: Restarts::default(),
            ending: Ending::Unasked,
            changed: Arc::clone(changed),
        }
    }

    // -- mutators

    /// What the next child is started with.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// Starts a child when none runs and its time has come.
    ///
    /// # Errors
    /// [`ProcessError`] when the system does not start it.
    pub fn ensure_started(&mut self, config: &ProcessConfig) -> Result<(), ProcessError> {
        self.bury();
        if self.child.is_some() || self.restarts.next_start().is_some_and(|at| at > Instant::now())
        {
            return Ok(());
        }
        match Child::start(&self.name, &self.arguments, config, &self.changed) {
            Ok(child) => {
                self.child = Some(child);
                self.restarts.handle_start();
                Ok(())
            }
            Err(error) => {
                // Counts as a death, so that the next try waits.
                self.restarts.handle_exit(Instant::now(), Duration::ZERO, error.to_string());
                Err(error)
            }
        }
    }

    /// Asks the child to end.
    pub fn request_stop(&self) {
        if let Some(child) = &self.child {
            child.request_stop();
        }
    }

    /// Asks the child to end, so that a new one takes its place; its end does not count as a death.
    pub fn request_restart(&mut self) {
        if self.child.is_some() {
            self.ending = Ending::Asked;
            self.request_stop();
        }
    }

    /// Ends the child at once, so that a new one takes its place.
    pub fn request_kill(&self) {
        if let Some(child) = &self.child {
            child.request_kill();
        }
    }

    /// Ends the child and returns when it is gone.
    ///
    /// # Errors
    /// [`ProcessError::Undead`] when it cannot be killed.
    pub async fn stop(self) -> Result<(), ProcessError> {
        match self.child {
            Some(child) => {
                child.stop().await.map_err(|()| ProcessError::Undead { name: self.name })
            }
            None => Ok(()),
        }
    }

    // -- getters

    /// How the child is now.
    pub fn condition(&self) -> SlotCondition {
        let Some(child) = &self.child else { return SlotCondition::Dead };
        let said = child.said();
        match (said.ended, said.listening) {
            (Some(_), _) => SlotCondition::Dead,
            (None, None) => SlotCondition::Starting { pid: child.pid() },
            (None, Some(_)) => SlotCondition::Listening { pid: child.pid(), control: said.control },
        }
    }

    /// Whether a child runs.
    pub fn is_alive(&self) -> bool {
        self.condition() != SlotCondition::Dead
    }

    /// Where it listens, or where its predecessor did.
    pub fn address(&self) -> Option<SocketAddr> {
        let now = self.child.as_ref().and_then(|child| child.said().listening);
        now.or(self.last_address)
    }

    /// When a dead child is due to be started again.
    pub fn next_start(&self) -> Option<Instant> {
        self.restarts.next_start()
    }

    /// Its deaths so far.
    pub fn restarts(&self) -> &Restarts {
        &self.restarts
    }

    /// Takes note of a child that ended.
    fn bury(&mut self) {
        let Some(child) = &self.child else { return };
        let said = child.said();
        let Some(ended) = said.ended else { return };
        self.last_address = said.listening.or(self.last_address);
        tracing::info!(child = self.name, pid = child.pid(), cause = ended.cause, "ended");
        match self.ending {
            Ending::Asked => self.restarts = Restarts::default(),
            Ending::Unasked => {
                self.restarts.handle_exit(Instant::now(), ended.lived, ended.cause);
            }
        }
        self.ending = Ending::Unasked;
        self.child = None;
    }
}
