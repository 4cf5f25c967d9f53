//! The model that this process was started with: its files made local, its facts told.

use crate::arguments::{AgentConfig, ModelArguments};
use crate::board::Board;
use crate::embedded::{EmbeddedModel, UnpackError};
use crate::facts::{self, FactsError};
use crate::limits::{SOURCE_RETRY_MAX, SOURCE_RETRY_MIN};
use crate::sources::{SourceUri, UriError};
use proto::v1::ModelFacts;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// A folder that looks like a checkpoint, and what is known of the model in it.
#[derive(Debug)]
pub struct Library {
    pub directory: PathBuf,
    pub facts: ModelFacts,
}

/// Hears of the library once it is there.
pub type LibraryWatch = watch::Receiver<Option<Arc<Library>>>;

/// The source as an assignment names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub uri: String,
    pub revision: String,
}

impl Origin {
    /// What an empty revision means.
    pub fn new(uri: &str, revision: &str) -> Self {
        let revision = if revision.is_empty() { DEFAULT_REVISION } else { revision };
        Self { uri: uri.to_owned(), revision: revision.to_owned() }
    }
}

/// The branch of a repository when nobody names one.
const DEFAULT_REVISION: &str = "main";

/// The model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error("model source embedded://{name} is not in this executable; it has {}", names(has))]
    UnknownEmbedded { name: String, has: Vec<&'static str> },
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(
        "model source {uri}: there is no folder {} in this agent; mount the volume there", path.display()
    )]
    NotMounted { uri: String, path: PathBuf },
    #[error("model source {uri}")]
    Facts { uri: String, source: Box<FactsError> },
    #[error("model source {uri} cannot be fetched yet")]
    Remote { uri: String },
    #[error("the thread that reads the model stopped: {reason}")]
    Stopped { reason: String },
}

fn names(has: &[&str]) -> String {
    match has {
        [] => "none".to_owned(),
        names => format!("embedded://{}", names.join(", embedded://")),
    }
}

/// Opens the library and tells the board, again and again until it is there.
#[derive(Debug)]
pub struct Librarian {
    pub options: Option<LibraryOptions>,
    pub board: Arc<Board>,
    pub library: watch::Sender<Option<Arc<Library>>>,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct LibraryOptions {
    pub origin: Origin,
    models: PathBuf,
    mount: PathBuf,
    embedded: &'static [EmbeddedModel],
}

impl LibraryOptions {
    /// `None` for an agent that was started without a source.
    pub fn new(config: &AgentConfig) -> Option<Self> {
        let ModelArguments { source, revision, directory, mount, endpoint: _ } = &config.model;
        let uri = source.as_deref().filter(|source| !source.is_empty())?;
        let models =
            directory.clone().unwrap_or_else(|| config.state_directory.join(MODELS_DIRECTORY));
        Some(Self {
            origin: Origin::new(uri, revision.as_deref().unwrap_or_default()),
            models,
            mount: mount.clone(),
            embedded: config.embedded,
        })
    }

    /// Where the files of this source are; what is remote is not fetched here.
    fn place(&self) -> Result<PathBuf, LibraryError> {
        let directory = match SourceUri::parse(&self.origin.uri)? {
            SourceUri::Claim { path } => self.mount.join(path),
            SourceUri::Image => self.mount.clone(),
            SourceUri::File { directory } => directory,
            SourceUri::Embedded { name } => {
                let model = self.embedded.iter().find(|model| model.name == name);
                let has = || self.embedded.iter().map(|model| model.name).collect();
                let model =
                    model.ok_or_else(|| LibraryError::UnknownEmbedded { name, has: has() })?;
                model.unpack(&self.models)?
            }
            SourceUri::HuggingFace { .. } | SourceUri::S3 { .. } => {
                return Err(LibraryError::Remote { uri: self.origin.uri.clone() });
            }
        };
        if directory.is_dir() {
            return Ok(directory);
        }
        Err(LibraryError::NotMounted { uri: self.origin.uri.clone(), path: directory })
    }

    fn open(&self) -> Result<Library, LibraryError> {
        let directory = self.place()?;
        let facts = facts::read(&directory, "").map_err(|source| LibraryError::Facts {
            uri: self.origin.uri.clone(),
            source: Box::new(source),
        })?;
        Ok(Library { directory, facts })
    }
}

/// In the state directory, for an agent that was given no other folder.
const MODELS_DIRECTORY: &str = "models";

impl Librarian {
    /// Never ends: the agent stays up and says what is wrong, and a fault that goes away is noticed.
    pub async fn run(self) {
        if let Some(options) = &self.options {
            let mut pause = SOURCE_RETRY_MIN;
            loop {
                match open(options).await {
                    Ok(library) => {
                        tracing::info!(
                            fingerprint = library.facts.fingerprint,
                            directory = %library.directory.display(),
                            "the model's facts are known"
                        );
                        self.board.model(&library.facts);
                        self.library.send_replace(Some(Arc::new(library)));
                        break;
                    }
                    Err(error) => {
                        let reason = crate::describe(&error);
                        tracing::error!(reason, "the model cannot be had; trying again");
                        self.board.failed(&reason);
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(SOURCE_RETRY_MAX);
            }
        }
        std::future::pending::<()>().await;
    }
}

async fn open(options: &LibraryOptions) -> Result<Library, LibraryError> {
    let options = options.clone();
    match tokio::task::spawn_blocking(move || options.open()).await {
        Ok(result) => result,
        Err(error) => Err(LibraryError::Stopped { reason: error.to_string() }),
    }
}
