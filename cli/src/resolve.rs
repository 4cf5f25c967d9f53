//! A manifest and this machine → what to plan and start.

use crate::arguments::DeploymentArguments;
use crate::describe;
use crate::embedded;
use crate::manifest::{Manifest, ManifestError};
use crate::memory::{MemoryError, available_per_agent};
use crate::state::{DeploymentDirectory, StateError, StateRoot};
use crds::ModelSource;
use model::kernels::KernelPath;
use model::load::{LoadError, ModelLoader};
use node_agent::embedded::{EmbeddedModel, UnpackError};
use planner::engine::{EngineError, EngineRequest, KERNEL_PATH_AUTO, size};
use planner::identity::{AgentId, DeploymentName, HostId};
use planner::inventory::{AgentFacts, AgentState, Inventory};
use planner::plan::{PlanError, Planned};
use planner::spec::{
    FactsFrom, Goal, ModelFacts, ModelSource as PlannedSource, ReplicaRange, Scaling, ServingSpec,
};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// A deployment that cannot be started from what was given.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("the model in {} cannot be used", directory.display())]
    Model {
        directory: PathBuf,
        #[source]
        source: Box<LoadError>,
    },
    #[error("embedded://{name} is not in this executable; it has embedded://{}", embedded::NAME)]
    UnknownEmbedded { name: String },
    #[error(
        "model.source {uri} is not yet on this substrate; download it and use file:///the/folder"
    )]
    Remote { uri: String },
    #[error(
        "model.source {uri} is no source; write embedded://{} or file:///a/folder",
        embedded::NAME
    )]
    NoSource { uri: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("kernel path {path:?} cannot be used: {reason}; or write auto")]
    KernelPath { path: String, reason: String },
}

/// A deployment with its flags applied. Nothing large has been read yet.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub directory: DeploymentDirectory,
    /// Memory that each agent may use.
    pub agent_memory_bytes: u64,
    manifest: Manifest,
    models: PathBuf,
    kernel_path: Option<KernelPath>,
    draft_tokens_max: Option<u32>,
}

impl Resolved {
    /// Reads the manifest and applies the flags.
    ///
    /// # Errors
    /// [`ResolveError`] naming the field or flag.
    pub fn new(file: Option<&Path>, flags: &DeploymentArguments) -> Result<Self, ResolveError> {
        let mut manifest = Manifest::read(file)?;
        if let Some(agents) = flags.agents {
            manifest.agents = ReplicaRange::exactly(agents);
        }
        if let Some(copies) = flags.copies.and_then(NonZeroU32::new) {
            manifest.copies = copies;
        }
        let kernel_path = kernel_path(flags.kernel_path.as_deref().unwrap_or(KERNEL_PATH_AUTO))?;
        let root = StateRoot::resolve(flags.state.state_directory.as_deref())?;
        let agent_memory_bytes = match flags.agent_memory {
            Some(bytes) => bytes,
            None => available_per_agent(manifest.agents.min)?,
        };
        Ok(Self {
            directory: root.deployment(&manifest.name),
            agent_memory_bytes,
            manifest,
            models: root.models(),
            kernel_path,
            draft_tokens_max: flags.draft_tokens,
        })
    }

    /// Puts the model's files in place and reads its facts: configuration and headers, no weights.
    ///
    /// # Errors
    /// [`ResolveError`] naming the file, field or tensor.
    pub fn goal(&self) -> Result<Goal, ResolveError> {
        let directory = self.model_directory()?;
        let path = self.kernel_path.unwrap_or_else(KernelPath::best);
        let loader = ModelLoader::open(&directory, path).map_err(|error| ResolveError::Model {
            directory: directory.clone(),
            source: Box::new(error),
        })?;
        let Manifest { name, agents, copies, .. } = &self.manifest;
        let goal = Goal {
            name: DeploymentName::new(name.clone()),
            source: PlannedSource::Directory(directory.display().to_string()),
            facts: FactsFrom::Caller(Box::new(facts(&loader))),
            agents: *agents,
            routers: ReplicaRange::exactly(1),
            copies: *copies,
            engine: EngineRequest {
                context_length: self.manifest.context_length,
                kernel_path: self
                    .kernel_path
                    .map_or(KERNEL_PATH_AUTO.to_owned(), |path| path.to_string()),
                draft_tokens_max: self.draft_tokens_max,
            },
            scaling: Scaling::default(),
            price: None,
        };
        // Found out now rather than by the reconcile, while a person watches.
        self.spec(&goal)?;
        Ok(goal)
    }

    /// What a plan for the fewest agents is made for.
    ///
    /// # Errors
    /// [`ResolveError::Engine`] when the model cannot do what was asked for.
    pub fn spec(&self, goal: &Goal) -> Result<ServingSpec, ResolveError> {
        let facts = match &goal.facts {
            FactsFrom::Caller(facts) => facts.as_ref().clone(),
            FactsFrom::Agents => ModelFacts::default(),
        };
        let engine = size(&facts, &goal.engine, self.agent_memory_bytes)?;
        Ok(goal.spec(goal.agents.min, facts, engine))
    }

    /// The plan for agents that are about to be started here.
    ///
    /// # Errors
    /// [`PlanError`] with the arithmetic when the model does not fit.
    pub fn plan(&self, spec: &ServingSpec) -> Result<Planned, PlanError> {
        let agents = (0..spec.agents).map(|n| {
            let agent = AgentId::new(format!("agent-{n}"));
            let facts = AgentFacts {
                host: host_of(&agent),
                address: "127.0.0.1:0".to_owned(),
                memory_bytes: self.agent_memory_bytes,
                state: AgentState::Running,
            };
            (agent, facts)
        });
        let inventory = Inventory { agents: agents.collect(), ..Inventory::default() };
        planner::plan::plan(spec, &inventory, None)
    }

    fn model_directory(&self) -> Result<PathBuf, ResolveError> {
        match &self.manifest.source {
            ModelSource::Embedded { name } => Ok(embedded_model(name)?.unpack(&self.models)?),
            ModelSource::File { directory } => Ok(directory.clone()),
            source @ (ModelSource::HuggingFace { .. }
            | ModelSource::PersistentVolumeClaim { .. }
            | ModelSource::S3 { .. }
            | ModelSource::Oci { .. }) => Err(ResolveError::Remote { uri: source.to_string() }),
        }
    }
}

fn embedded_model(name: &str) -> Result<&'static EmbeddedModel, ResolveError> {
    let found = embedded::MODELS.iter().find(|model| model.name == name);
    found.ok_or_else(|| ResolveError::UnknownEmbedded { name: name.to_owned() })
}

/// On this substrate every agent counts as a machine of its own.
pub fn host_of(agent: &AgentId) -> HostId {
    HostId::new(format!("host-of-{agent}"))
}

/// `None` for `auto`.
fn kernel_path(name: &str) -> Result<Option<KernelPath>, ResolveError> {
    if name == KERNEL_PATH_AUTO {
        return Ok(None);
    }
    let failed = |reason| ResolveError::KernelPath { path: name.to_owned(), reason };
    let path: KernelPath = name.parse().map_err(|error| failed(describe(&error)))?;
    if path.is_available() {
        Ok(Some(path))
    } else {
        Err(failed("this processor lacks the instructions".to_owned()))
    }
}

fn facts(loader: &ModelLoader) -> ModelFacts {
    let addresses = loader.expert_addresses();
    let mut moe_layers: Vec<u32> = addresses.iter().map(|address| address.layer).collect();
    moe_layers.dedup();
    let experts_per_layer = addresses.iter().map(|address| address.expert + 1).max().unwrap_or(0);
    ModelFacts {
        moe_layers,
        experts_per_layer,
        dense_bytes: loader.dense_bytes(),
        expert_bytes: loader.expert_bytes(),
        context_length_max: u32::try_from(loader.config().context_length_max).unwrap_or(u32::MAX),
        cache_token_bytes: loader.cache_block_bytes(1),
        // Agents read the same folder, so there is nothing to compare.
        ..ModelFacts::default()
    }
}
