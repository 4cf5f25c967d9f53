//! The model that this process was started with: where its files are, and which of them must become local.

use crate::arguments::{AgentConfig, ModelArguments};
use crate::checkpoint_files;
use crate::embedded::{EmbeddedModel, UnpackError};
use crate::facts::FactsError;
use crate::fetch::{Downloader, FetchError, FileRange, Identity, Locked, Progress, Space};
use crate::fingerprint::{self, Sample};
use crate::peers::{Peers, WantedExpert, WantedTensor};
use crate::secret::Secret;
use crate::sources::{Bucket, Hub, PUBLIC_HUB, Remote, SourceUri, UriError};
use model::checkpoint::TensorAt;
use model::executor::ExpertAddress;
use model::kernels::KernelPath;
use model::load::{ModelLoader, ModelPart};
use proto::v1::ModelFacts;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// A folder that looks like a checkpoint, and what is known of the model in it.
#[derive(Debug)]
pub struct Library {
    pub directory: PathBuf,
    pub facts: ModelFacts,
    /// Where each tensor lies.
    pub headers: Arc<ModelLoader>,
    /// For a source whose files are here only in part.
    pub remote: Option<Downloader>,
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
    #[error("model source {uri} cannot be fetched")]
    Fetch { uri: String, source: Box<FetchError> },
    #[error("the thread that reads the model stopped: {reason}")]
    Stopped { reason: String },
}

fn names(has: &[&str]) -> String {
    match has {
        [] => "none".to_owned(),
        names => format!("embedded://{}", names.join(", embedded://")),
    }
}

impl LibraryError {
    /// Whether the files themselves are of no use, so that others must be looked for.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Facts { .. } => true,
            Self::Fetch { source, .. } => source.is_about_content(),
            Self::Uri(_)
            | Self::UnknownEmbedded { .. }
            | Self::Unpack(_)
            | Self::NotMounted { .. }
            | Self::Stopped { .. } => false,
        }
    }
}

/// Where the files of a source are.
#[derive(Debug)]
pub enum Place {
    Local(PathBuf),
    Remote(Arc<dyn Remote>),
}

/// What to open.
#[derive(Clone, Debug)]
pub struct LibraryOptions {
    pub origin: Origin,
    models: PathBuf,
    mount: PathBuf,
    endpoint: Option<String>,
    hub_token: Option<Secret>,
    embedded: &'static [EmbeddedModel],
    space: Space,
}

impl LibraryOptions {
    /// `None` for an agent that was started without a source.
    pub fn new(config: &AgentConfig) -> Option<Self> {
        let ModelArguments { source, revision, directory, mount, endpoint, hub_token } =
            &config.model;
        let uri = source.as_deref().filter(|source| !source.is_empty())?;
        let models =
            directory.clone().unwrap_or_else(|| config.state_directory.join(MODELS_DIRECTORY));
        Some(Self {
            origin: Origin::new(uri, revision.as_deref().unwrap_or_default()),
            models,
            mount: mount.clone(),
            endpoint: endpoint.clone().filter(|endpoint| !endpoint.is_empty()),
            hub_token: hub_token.clone().filter(|token| !token.expose().is_empty()),
            embedded: config.embedded,
            space: config.space,
        })
    }

    /// The folder for what is fetched.
    pub fn models(&self) -> &Path {
        &self.models
    }

    pub fn space(&self) -> Space {
        self.space
    }

    /// What makes a folder of fetched files this one's.
    pub fn identity(&self) -> Identity {
        Identity {
            uri: self.origin.uri.clone(),
            revision: self.origin.revision.clone(),
            endpoint: self.endpoint.clone().unwrap_or_default(),
        }
    }

    /// A fetch that failed, in the words of this source.
    pub fn fetch_error(&self, source: FetchError) -> LibraryError {
        LibraryError::Fetch { uri: self.origin.uri.clone(), source: Box::new(source) }
    }

    /// Files that cannot be used, in the words of this source.
    pub fn facts_error(&self, source: FactsError) -> LibraryError {
        LibraryError::Facts { uri: self.origin.uri.clone(), source: Box::new(source) }
    }

    /// What the fingerprint will read.
    ///
    /// # Errors
    /// [`LibraryError::Facts`] when the headers cannot be used.
    pub fn samples(&self, directory: &Path) -> Result<Vec<Sample>, LibraryError> {
        let headers = ModelLoader::open(directory, KernelPath::best());
        let headers = headers.map_err(|error| self.facts_error(error.into()))?;
        let tensors: Vec<TensorAt<'_>> = headers.tensors().collect();
        Ok(fingerprint::samples(&tensors))
    }

    fn remote(&self, source: &SourceUri) -> Result<Arc<dyn Remote>, LibraryError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let failed = |error| self.fetch_error(FetchError::Source(error));
        match source {
            SourceUri::S3 { bucket, path } => {
                let endpoint = self.endpoint.clone().or_else(|| variable("AWS_ENDPOINT_URL"));
                let bucket = Bucket::new(endpoint.as_deref(), bucket, path);
                Ok(Arc::new(bucket.map_err(failed)?))
            }
            SourceUri::HuggingFace { .. }
            | SourceUri::Claim { .. }
            | SourceUri::Image
            | SourceUri::File { .. }
            | SourceUri::Embedded { .. } => {
                let endpoint = self.endpoint.clone().or_else(|| variable("HF_ENDPOINT"));
                let endpoint = endpoint.as_deref().unwrap_or(PUBLIC_HUB);
                let id = self.origin.uri.trim_start_matches("hf://");
                let token = self.hub_token.as_ref().map(Secret::expose);
                let hub = Hub::new(endpoint, id, &self.origin.revision, token);
                Ok(Arc::new(hub.map_err(failed)?))
            }
        }
    }

    /// Where the files of this source are; nothing is fetched here.
    ///
    /// # Errors
    /// [`LibraryError`] that says what to do.
    pub fn place(&self) -> Result<Place, LibraryError> {
        let source = SourceUri::parse(&self.origin.uri)?;
        let directory = match source {
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
                return Ok(Place::Remote(self.remote(&source)?));
            }
        };
        if directory.is_dir() {
            return Ok(Place::Local(directory));
        }
        Err(LibraryError::NotMounted { uri: self.origin.uri.clone(), path: directory })
    }
}

/// In the state directory, for an agent that was given no other folder.
const MODELS_DIRECTORY: &str = "models";

/// What an assignment needs of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The dense part, and experts.
    Everything,
    /// Experts beside what an earlier assignment has brought.
    Experts,
}

impl Library {
    /// Returns once these experts, and what else is needed, are whole on disk: experts from peers that have them, the
    /// rest from the source.
    ///
    /// # Errors
    /// [`FetchError`]; what has arrived is kept.
    pub async fn ensure(
        &self,
        needs: Needs,
        experts: &BTreeSet<ExpertAddress>,
        peers: &Peers,
        progress: &Progress,
    ) -> Result<(), FetchError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let locked = remote.folder.lock().await?;
        let wanted_experts: Vec<WantedExpert> =
            experts.iter().map(|&address| self.wanted(remote, address)).collect();
        let mut wanted = match needs {
            Needs::Everything => self.ranges(remote, ModelPart::Dense),
            Needs::Experts => Vec::new(),
        };
        let tensors = wanted_experts.iter().flat_map(|expert| &expert.tensors);
        wanted.extend(tensors.map(|tensor| tensor.range.clone()));
        let total: u64 = wanted.iter().map(FileRange::bytes).sum();
        let count = |missing: Vec<FileRange>| missing.iter().map(FileRange::bytes).sum::<u64>();
        let missing = count(remote.missing(&wanted));
        progress.begin(total.saturating_sub(missing), total);
        if missing == 0 {
            return Ok(());
        }
        remote.check_space(missing)?;
        let absent = wanted_experts.into_iter().filter(|expert| {
            expert
                .tensors
                .iter()
                .any(|it| !remote.missing(std::slice::from_ref(&it.range)).is_empty())
        });
        let from_peers = peers.fetch(remote, absent.collect(), progress).await;
        remote.commit().await?;
        let left = count(remote.missing(&wanted));
        progress.begin(total.saturating_sub(left), total);
        remote.ensure(&locked, &wanted, progress).await?;
        tracing::info!(
            bytes = missing,
            experts_from_peers = from_peers,
            from_source_bytes = left,
            "the assignment's weights are on disk"
        );
        Ok(())
    }

    fn wanted(&self, remote: &Downloader, address: ExpertAddress) -> WantedExpert {
        let tensors = self.headers.part(ModelPart::Expert(address)).unwrap_or_default();
        let wanted = tensors.iter().filter_map(|tensor| {
            let range = checkpoint_files::range_of(&remote.folder, tensor)?;
            Some(WantedTensor { name: tensor.name.to_owned(), range })
        });
        WantedExpert { address, tensors: wanted.collect() }
    }

    /// A part that the model does not have is refused when it is loaded.
    fn ranges(&self, remote: &Downloader, part: ModelPart) -> Vec<FileRange> {
        let tensors = self.headers.part(part).unwrap_or_default();
        let range = |tensor| checkpoint_files::range_of(&remote.folder, tensor);
        tensors.iter().filter_map(range).collect()
    }
}

/// Fetches what the fingerprint reads.
///
/// # Errors
/// [`FetchError`].
pub async fn ensure_samples(
    remote: &Downloader,
    locked: &Locked,
    samples: &[Sample],
    progress: &Progress,
) -> Result<(), FetchError> {
    let range = |Sample { file, bytes }: &Sample| {
        checkpoint_files::range(&remote.folder, file, bytes.clone())
    };
    let wanted: Vec<FileRange> = samples.iter().filter_map(range).collect();
    remote.ensure(locked, &wanted, progress).await
}
