//! Which assignment is recorded: the rules of generations, and the disk behind them.

use crate::assignment::{Assignment, AssignmentError, Binding};
use crate::store::{Store, StoreError};
use proto::v1;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Records assignments and hands the latest one to the loader.
#[derive(Debug)]
pub struct Registry {
    agent_id: String,
    store: Store,
    state: Mutex<State>,
    wanted: watch::Sender<Option<Arc<Assignment>>>,
}

#[derive(Debug, Default)]
struct State {
    recorded: Option<Arc<Assignment>>,
    /// What this process is bound to, once it loads something.
    binding: Option<Binding>,
    last_load: LastLoad,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LastLoad {
    #[default]
    Fine,
    Failed,
}

/// An assignment that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    #[error("the assignment cannot work")]
    Invalid(#[from] AssignmentError),
    #[error("generation {given} is older than {recorded}, which this agent has")]
    Older { given: u64, recorded: u64 },
    #[error(
        "generation {generation} is recorded with other content; give the new content a higher generation"
    )]
    SameGenerationOtherContent { generation: u64 },
    #[error(
        "generation {generation} changes {what}, which a running process cannot; it is recorded: restart the process to apply it"
    )]
    NeedsRestart { generation: u64, what: &'static str },
    #[error("the assignment cannot be recorded")]
    Store(#[from] StoreError),
    #[error("the assignment cannot be recorded: the writing task was stopped")]
    Stopped,
}

impl Registry {
    /// A registry without an assignment, and where the loader hears of new ones.
    pub fn new(agent_id: &str, store: Store) -> Self {
        let wanted = watch::Sender::new(None);
        Self { agent_id: agent_id.into(), store, state: Mutex::default(), wanted }
    }

    /// Hears of every assignment to load, and again of the same one when it is to be tried again.
    pub fn wanted(&self) -> watch::Receiver<Option<Arc<Assignment>>> {
        self.wanted.subscribe()
    }

    /// Takes up what an earlier process recorded. A recorded file that cannot be used is an error to log: the next
    /// `Assign` replaces it.
    ///
    /// # Errors
    /// [`AssignError`] when there is a record that cannot be read.
    pub async fn restore(&self) -> Result<(), AssignError> {
        let Some(wire) = self.store.read()? else { return Ok(()) };
        let assignment = Arc::new(Assignment::parse(&wire, &self.agent_id)?);
        tracing::info!(generation = assignment.generation, "taking up the recorded assignment");
        let mut state = self.state.lock().await;
        state.binding = Some(assignment.binding.clone());
        state.recorded = Some(Arc::clone(&assignment));
        self.wanted.send_replace(Some(assignment));
        Ok(())
    }

    /// Records an assignment and returns its generation.
    ///
    /// # Errors
    /// [`AssignError`]; nothing has changed then, but for `NeedsRestart`, which records it for the next process.
    pub async fn assign(&self, wire: v1::Assignment) -> Result<u64, AssignError> {
        let assignment = Arc::new(Assignment::parse(&wire, &self.agent_id)?);
        let generation = assignment.generation;
        let mut state = self.state.lock().await;
        let news = state.compare(&assignment)?;
        if news == News::Fresh {
            let store = self.store.clone();
            let write = tokio::task::spawn_blocking(move || store.write(&wire));
            write.await.map_err(|_| AssignError::Stopped)??;
            state.recorded = Some(Arc::clone(&assignment));
        }
        if let Some(what) = state.binding.as_ref().and_then(|old| difference(old, &assignment)) {
            return Err(AssignError::NeedsRestart { generation, what });
        }
        if news == News::Fresh || state.last_load == LastLoad::Failed {
            state.binding = Some(assignment.binding.clone());
            state.last_load = LastLoad::Fine;
            self.wanted.send_replace(Some(assignment));
        }
        Ok(generation)
    }

    /// The loader could not load the first assignment: the process is bound to nothing.
    pub async fn first_load_failed(&self) {
        let mut state = self.state.lock().await;
        state.last_load = LastLoad::Failed;
        state.binding = None;
    }

    /// The loader could not load a later one; the earlier one is still in effect.
    pub async fn load_failed(&self) {
        self.state.lock().await.last_load = LastLoad::Failed;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Fresh,
    /// Recorded already.
    Equal,
}

impl State {
    fn compare(&self, assignment: &Assignment) -> Result<News, AssignError> {
        let Some(recorded) = &self.recorded else { return Ok(News::Fresh) };
        let given = assignment.generation;
        if given < recorded.generation {
            return Err(AssignError::Older { given, recorded: recorded.generation });
        }
        if given > recorded.generation {
            return Ok(News::Fresh);
        }
        if **recorded == *assignment {
            return Ok(News::Equal);
        }
        Err(AssignError::SameGenerationOtherContent { generation: given })
    }
}

fn difference(old: &Binding, assignment: &Assignment) -> Option<&'static str> {
    // No `..`: a new field must not be forgotten here.
    let Binding { deployment, directory, settings } = &assignment.binding;
    if old.deployment != *deployment {
        Some("the deployment")
    } else if old.directory != *directory {
        Some("the model's folder")
    } else if old.settings != *settings {
        Some("the engine's settings")
    } else {
        None
    }
}
