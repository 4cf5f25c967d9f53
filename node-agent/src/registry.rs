//! Which assignment is recorded: the rules of generations, and the disk behind them.

use crate::assignment::{Assignment, AssignmentError, Binding, ModelPlace};
use crate::library::{LibraryWatch, Origin};
use crate::store::{Store, StoreError};
use proto::v1;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Records assignments and hands the latest one to the loader.
#[derive(Debug)]
pub struct Registry {
    agent_id: String,
    store: Store,
    own: OwnModel,
    state: Mutex<State>,
    wanted: watch::Sender<Option<Arc<Assignment>>>,
}

/// The model that the process was started with.
#[derive(Clone, Debug)]
pub struct OwnModel {
    pub origin: Option<Origin>,
    pub library: LibraryWatch,
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
    #[error(
        "model.{field} is {given:?} and this agent was started with {own:?}; start an agent for the other model beside it"
    )]
    OtherModel { field: &'static str, given: String, own: String },
    #[error(
        "model.uri is {uri:?} and this agent was started without a model source; give it BOYLE_MODEL_SOURCE"
    )]
    NoModel { uri: String },
    #[error("the assignment cannot be recorded")]
    Store(#[from] StoreError),
    #[error("the assignment cannot be recorded: the writing task was stopped")]
    Stopped,
}

impl Registry {
    /// A registry without an assignment, and where the loader hears of new ones.
    pub fn new(agent_id: &str, store: Store, own: OwnModel) -> Self {
        let wanted = watch::Sender::new(None);
        Self { agent_id: agent_id.into(), store, own, state: Mutex::default(), wanted }
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
        self.own.check(&assignment)?;
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
        self.own.check(&assignment)?;
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

    /// The loader tries the recorded assignment again by itself.
    pub async fn retrying(&self, assignment: &Assignment) {
        let mut state = self.state.lock().await;
        state.binding.get_or_insert_with(|| assignment.binding.clone());
        state.last_load = LastLoad::Fine;
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

impl OwnModel {
    /// Whether the assignment is for this model, as far as that is known yet.
    fn check(&self, assignment: &Assignment) -> Result<(), AssignError> {
        let ModelPlace::Source(given) = &assignment.binding.model else { return Ok(()) };
        let Some(own) = &self.origin else {
            return Err(AssignError::NoModel { uri: given.uri.clone() });
        };
        let library = self.library.borrow();
        let fingerprint = library.as_ref().map(|library| library.facts.fingerprint.as_str());
        let known = fingerprint.filter(|_| !assignment.fingerprint.is_empty());
        let table = [
            ("uri", given.uri.as_str(), own.uri.as_str()),
            ("revision", given.revision.as_str(), own.revision.as_str()),
            (
                "fingerprint",
                assignment.fingerprint.as_str(),
                known.unwrap_or(&assignment.fingerprint),
            ),
        ];
        match table.into_iter().find(|(_, given, own)| given != own) {
            None => Ok(()),
            Some((field, given, own)) => {
                Err(AssignError::OtherModel { field, given: given.into(), own: own.into() })
            }
        }
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
    let Binding { deployment, model, settings } = &assignment.binding;
    if old.deployment != *deployment {
        Some("the deployment")
    } else if old.model != *model {
        Some("the model's place")
    } else if old.settings != *settings {
        Some("the engine's settings")
    } else {
        None
    }
}
