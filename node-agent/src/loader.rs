//! Brings assignments into effect, one after the other: load, swap, tell everyone.

use crate::assignment::{Assignment, ModelPlace};
use crate::board::Board;
use crate::describe;
use crate::driver::{self, Command, EngineGone, Hooks};
use crate::engine_watch::EngineWatch;
use crate::exchange::{Hello, Links, Resident};
use crate::expert_files::ExpertFiles;
use crate::fetch::{FetchError, Progress};
use crate::library::{Library, LibraryWatch, Needs};
use crate::limits::{SOURCE_RETRY_MAX, SOURCE_RETRY_MIN};
use crate::metrics::Metrics;
use crate::model_files::{self, Files, FilesError, LoadedModel};
use crate::peers::Peers;
use crate::registry::Registry;
use crate::self_test;
use crate::serving::{ModelVocabulary, Serving};
use engine::engine::{Engine, EngineConfig};
use engine::exchange::PeerId;
use model::executor::{Executor, SharedExperts};
use model::expert_store::ExpertStore;
use model::load::ModelLoader;
use proto::tls::Security;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// Whom a load concerns.
#[derive(Debug)]
pub struct Loader {
    pub agent_id: String,
    pub security: Security,
    pub registry: Arc<Registry>,
    pub board: Arc<Board>,
    pub metrics: Arc<Metrics>,
    pub engine: Arc<EngineWatch>,
    pub library: LibraryWatch,
    pub expert_files: watch::Sender<Option<Arc<ExpertFiles>>>,
    pub resident: watch::Sender<Option<Arc<Resident>>>,
    pub serving: watch::Sender<Option<Arc<Serving>>>,
    pub fatal: mpsc::Sender<String>,
}

/// What the assignment in effect holds.
struct Loaded {
    files: Arc<ModelLoader>,
    experts: Arc<ExpertStore>,
    links: Links,
    serving: Arc<Serving>,
    fingerprint: String,
    library: Option<Arc<Library>>,
}

/// Whether a failed load is tried again without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Later,
    No,
}

/// An assignment that did not come into effect.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("generation {generation} cannot be loaded")]
    Files { generation: u64, source: Box<FilesError> },
    #[error("loading generation {generation} panicked: {reason}")]
    Panicked { generation: u64, reason: String },
    #[error("the system has no thread left for the engine")]
    Thread(#[from] std::io::Error),
    #[error("the weights of generation {generation} cannot be fetched")]
    Fetch { generation: u64, source: Box<FetchError> },
    #[error(transparent)]
    Engine(#[from] EngineGone),
    #[error("the task that fetches the model stopped")]
    LibraryGone,
}

impl LoadError {
    /// What is wrong outside may be mended there; what is wrong in the assignment needs another one.
    fn again(&self) -> Again {
        match self {
            Self::Fetch { source, .. } if !source.is_about_content() => Again::Later,
            Self::Fetch { .. }
            | Self::Files { .. }
            | Self::Panicked { .. }
            | Self::Thread(_)
            | Self::Engine(_)
            | Self::LibraryGone => Again::No,
        }
    }
}

impl Loader {
    /// Loads every assignment that the registry records; when several come during a load, the last of them.
    pub async fn run(self) {
        let mut wanted = self.registry.wanted();
        let mut loaded: Option<Loaded> = None;
        let mut pause = SOURCE_RETRY_MIN;
        loop {
            let assignment = wanted.borrow_and_update().clone();
            let mut again = Again::No;
            if let Some(assignment) = &assignment {
                (loaded, again) = self.apply(loaded, assignment).await;
            }
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => pause = SOURCE_RETRY_MIN,
                    Err(_) => return,
                },
                () = tokio::time::sleep(pause), if again == Again::Later => {
                    pause = (pause * 2).min(SOURCE_RETRY_MAX);
                    if let Some(assignment) = &assignment {
                        self.registry.retrying(assignment).await;
                    }
                }
            }
        }
    }

    async fn apply(
        &self,
        loaded: Option<Loaded>,
        assignment: &Arc<Assignment>,
    ) -> (Option<Loaded>, Again) {
        let generation = assignment.generation;
        let began = Instant::now();
        self.metrics.experts_assigned.set(assignment.own_experts().len() as i64);
        tracing::info!(generation, "loading an assignment");
        let (loaded, error) = match loaded {
            None => match self.first(assignment).await {
                Ok(loaded) => (Some(loaded), None),
                Err(error) => {
                    self.registry.first_load_failed().await;
                    (None, Some(error))
                }
            },
            Some(mut loaded) => match self.replace(&mut loaded, assignment).await {
                Ok(()) => (Some(loaded), None),
                Err(error) => {
                    self.registry.load_failed().await;
                    (Some(loaded), Some(error))
                }
            },
        };
        match error {
            None => {
                self.metrics.model_load_seconds.set(began.elapsed().as_secs_f64());
                tracing::info!(generation, "the assignment is in effect");
                (loaded, Again::No)
            }
            Some(error) => {
                let reason = describe(&error);
                tracing::error!(generation, reason, "the assignment cannot be loaded");
                self.board.failed(&reason);
                (loaded, error.again())
            }
        }
    }

    async fn first(&self, assignment: &Arc<Assignment>) -> Result<Loaded, LoadError> {
        let settings = &assignment.binding.settings;
        self.board.loading(assignment.generation, &settings.kernel_path.to_string());
        let library = self.library(assignment).await?;
        self.fetch(library.as_deref(), Needs::Everything, assignment).await?;
        let LoadedModel { loader, text, executor, experts, facts } =
            self.read(library.clone(), assignment).await?;
        self.board.model(&facts);
        // Rows of the embedding beyond the tokeniser's ids are padding, ids beyond the embedding have no row.
        let vocab_size = loader.config().vocab_size.min(text.tokenizer.vocab_size());
        let vocabulary = ModelVocabulary { tokenizer: Arc::clone(&text.tokenizer), vocab_size };
        let pulse = executor.pulse();
        let shared: SharedExperts = Arc::<ExpertStore>::clone(&experts);
        let engine = new_engine(assignment, &loader, executor, shared, vocabulary);
        let hooks = Hooks {
            board: Arc::clone(&self.board),
            metrics: Arc::clone(&self.metrics),
            pulse: pulse.clone(),
            fatal: self.fatal.clone(),
        };
        let commands = driver::start(engine, hooks)?;
        self.engine.follow(pulse);
        let serving = Arc::new(Serving::new(
            assignment.binding.deployment.clone(),
            text,
            settings.context_length,
            vocab_size,
            commands.clone(),
        ));
        let mut loaded = Loaded {
            files: Arc::new(loader),
            experts,
            links: Links::new(commands, Arc::clone(&self.metrics), self.security.clone()),
            serving,
            fingerprint: facts.fingerprint,
            library,
        };
        self.take_effect(&mut loaded, assignment).await?;
        self.serving.send_replace(Some(Arc::clone(&loaded.serving)));
        let (serving, board) = (Arc::clone(&loaded.serving), Arc::clone(&self.board));
        tokio::spawn(self_test::run(serving, board));
        Ok(loaded)
    }

    async fn read(
        &self,
        library: Option<Arc<Library>>,
        assignment: &Arc<Assignment>,
    ) -> Result<LoadedModel, LoadError> {
        let (job, board) = (Arc::clone(assignment), Arc::clone(&self.board));
        let directory = directory(assignment, library.as_deref());
        blocking(assignment.generation, move || {
            let facts = library.as_ref().map(|library| &library.facts);
            let files = Files { directory: &directory, facts };
            model_files::load(&job, files, &|done, total| board.progress(done, total))
        })
        .await
    }

    /// Makes local what the assignment needs; nothing to do for files that are here.
    async fn fetch(
        &self,
        library: Option<&Library>,
        needs: Needs,
        assignment: &Arc<Assignment>,
    ) -> Result<(), LoadError> {
        let Some(library) = library else { return Ok(()) };
        let board = Arc::clone(&self.board);
        let progress = Progress::new(move |done, total| board.fetch(done, total));
        let peers = Peers {
            assignment: Arc::clone(assignment),
            fingerprint: library.facts.fingerprint.clone(),
            security: self.security.clone(),
        };
        let fetched = library.ensure(needs, &assignment.own_experts(), &peers, &progress).await;
        let generation = assignment.generation;
        fetched.map_err(|source| LoadError::Fetch { generation, source: Box::new(source) })
    }

    async fn replace(
        &self,
        loaded: &mut Loaded,
        assignment: &Arc<Assignment>,
    ) -> Result<(), LoadError> {
        self.fetch(loaded.library.as_deref(), Needs::Experts, assignment).await?;
        let (files, previous) = (Arc::clone(&loaded.files), Arc::clone(&loaded.experts));
        let (job, board) = (Arc::clone(assignment), Arc::clone(&self.board));
        loaded.experts = blocking(assignment.generation, move || {
            let progress = |done, total| board.progress(done, total);
            model_files::load_more(&files, &previous, &job, &progress)
        })
        .await?;
        self.take_effect(loaded, assignment).await?;
        let experts: SharedExperts = Arc::<ExpertStore>::clone(&loaded.experts);
        let placement = Command::Placement(assignment.placement.clone(), experts);
        loaded.serving.commands.send(placement).await?;
        if loaded.serving.is_tested() {
            self.board.ready();
        }
        Ok(())
    }

    /// This process's own model, when the assignment is for it; waits until it is there.
    async fn library(&self, assignment: &Assignment) -> Result<Option<Arc<Library>>, LoadError> {
        match &assignment.binding.model {
            ModelPlace::Directory(_) => Ok(None),
            ModelPlace::Source(_) => {
                let mut library = self.library.clone();
                let found = library.wait_for(Option::is_some).await;
                Ok(found.map_err(|_| LoadError::LibraryGone)?.clone())
            }
        }
    }

    /// Peers may call the experts, and we call theirs.
    async fn take_effect(
        &self,
        loaded: &mut Loaded,
        assignment: &Assignment,
    ) -> Result<(), EngineGone> {
        let experts: SharedExperts = Arc::<ExpertStore>::clone(&loaded.experts);
        let hello = Hello {
            deployment: assignment.binding.deployment.clone(),
            agent_id: self.agent_id.clone(),
            generation: assignment.generation,
            row_format: experts.row_format(),
            row_length: experts.row_length(),
            fingerprint: loaded.fingerprint.clone(),
        };
        let addresses = experts.resident();
        let remote = loaded.library.as_ref().and_then(|library| library.remote.as_ref());
        self.expert_files.send_replace(Some(Arc::new(ExpertFiles {
            fingerprint: loaded.fingerprint.clone(),
            headers: Arc::clone(&loaded.files),
            folder: remote.map(|remote| Arc::clone(&remote.folder)),
        })));
        self.resident.send_replace(Some(Arc::new(Resident { hello: hello.clone(), experts })));
        let context_length = assignment.binding.settings.context_length;
        self.board.resident(assignment.generation, context_length, &addresses);
        loaded.links.update(&hello, &peers_with_experts(assignment)).await
    }
}

fn directory(assignment: &Assignment, library: Option<&Library>) -> PathBuf {
    match (&assignment.binding.model, library) {
        (_, Some(library)) => library.directory.clone(),
        (ModelPlace::Directory(directory), None) => directory.clone(),
        // The caller has waited for it.
        (ModelPlace::Source(_), None) => PathBuf::new(),
    }
}

/// Runs the slow part on a thread of its own.
async fn blocking<T: Send + 'static>(
    generation: u64,
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, LoadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(LoadError::Files { generation, source: Box::new(source) }),
        Err(error) => Err(LoadError::Panicked { generation, reason: error.to_string() }),
    }
}

fn new_engine(
    assignment: &Assignment,
    loader: &ModelLoader,
    executor: Box<dyn Executor>,
    experts: SharedExperts,
    vocabulary: ModelVocabulary,
) -> Engine {
    let settings = &assignment.binding.settings;
    let config = EngineConfig {
        context_length: settings.context_length,
        step_tokens_max: settings.step_tokens_max,
        sequences_max: settings.sequences_max,
        queue_max: settings.queue_max,
        expert_deadline: settings.expert_deadline,
        draft_tokens_max: settings.draft_tokens_max,
        end_token_ids: loader.config().end_token_ids.clone(),
    };
    Engine::new(config, executor, experts, Arc::new(vocabulary), assignment.placement.clone())
}

/// The others in the placement, with their addresses.
fn peers_with_experts(assignment: &Assignment) -> BTreeMap<PeerId, String> {
    let holders: BTreeSet<&PeerId> = assignment.placement.copies.values().flatten().collect();
    assignment
        .peers
        .iter()
        .filter(|(peer, _)| holders.contains(peer) && **peer != assignment.placement.local)
        .map(|(peer, address)| (peer.clone(), address.clone()))
        .collect()
}
