//! Blocking work of a load: files in, executor and experts out.

use crate::assignment::Assignment;
use crate::facts;
use crate::fingerprint::FingerprintError;
use crate::limits::CACHE_BLOCK_TOKENS;
use crate::pool;
use crate::serving::ModelText;
use engine::exchange::Placement;
use model::config::{FeedForward, ModelConfig};
use model::executor::{CacheShape, Executor, ExpertAddress, Experts};
use model::expert_store::ExpertStore;
use model::load::ModelLoader;
use model::template::{ChatTemplate, TemplateError};
use model::tokenizer::{Tokenizer, TokenizerError};
use proto::limits::{EXCHANGE_FRAME_BYTES_MAX, EXCHANGE_HEADER_BYTES_MAX};
use proto::v1::ModelFacts;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Everything of a first load.
pub struct LoadedModel {
    pub loader: ModelLoader,
    pub text: ModelText,
    pub executor: Box<dyn Executor>,
    pub experts: Arc<ExpertStore>,
    pub facts: ModelFacts,
}

/// Which files, and what is known of them already.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    pub directory: &'a Path,
    pub facts: Option<&'a ModelFacts>,
}

/// An assignment that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("cannot load the model")]
    Model(#[from] model::load::LoadError),
    #[error("cannot use the model's tokeniser")]
    Tokenizer(#[from] TokenizerError),
    #[error("cannot use the model's chat template")]
    Template(#[from] TemplateError),
    #[error(
        "settings.context_length is {asked} and the model's longest context is {max}; lower it"
    )]
    ContextTooLong { asked: usize, max: usize },
    #[error(
        "settings.kv_cache_bytes is {given} and one block of {CACHE_BLOCK_TOKENS} tokens needs {block_bytes}; raise it to {needed} for one whole context"
    )]
    CacheTooSmall { given: u64, block_bytes: u64, needed: u64 },
    #[error(
        "settings.step_tokens_max is {given} and an exchange frame holds the expert outputs of {max} tokens; lower it"
    )]
    StepTooLarge { given: usize, max: usize },
    #[error("the model has no fingerprint")]
    Fingerprint(#[from] FingerprintError),
    #[error(
        "model.fingerprint is {given} and the files in this agent have {own}; give every agent of the deployment the same files"
    )]
    OtherFiles { given: String, own: String },
    #[error("placement misses expert {} of layer {}", address.expert, address.layer)]
    NotPlaced { address: ExpertAddress },
    #[error("placement names expert {} of layer {}, which the model does not have", address.expert, address.layer)]
    NoSuchExpert { address: ExpertAddress },
}

/// Loads an assignment from nothing. `progress` gets bytes done and bytes in all.
///
/// # Errors
/// [`FilesError`], whose causes name file and tensor.
pub fn load(
    assignment: &Assignment,
    files: Files<'_>,
    progress: &dyn Fn(u64, u64),
) -> Result<LoadedModel, FilesError> {
    let settings = &assignment.binding.settings;
    let directory = files.directory;
    let loader = ModelLoader::open_with(directory, settings.kernel_path, pool::shared())?;
    let max = loader.config().context_length_max;
    if settings.context_length > max {
        return Err(FilesError::ContextTooLong { asked: settings.context_length, max });
    }
    check_placement(&loader, &assignment.placement)?;
    let facts = match files.facts {
        Some(facts) => facts.clone(),
        None => facts::of(&loader, directory, "")?,
    };
    if !assignment.fingerprint.is_empty() && assignment.fingerprint != facts.fingerprint {
        let (given, own) = (assignment.fingerprint.clone(), facts.fingerprint);
        return Err(FilesError::OtherFiles { given, own });
    }
    let tokenizer = Arc::new(Tokenizer::open(directory)?);
    let template = Arc::new(ChatTemplate::open(directory)?);
    let wanted = assignment.own_experts();
    let total = loader.dense_bytes() + loader.expert_bytes() * wanted.len() as u64;
    let mut done = 0;
    let mut advance = |bytes| {
        done += bytes;
        progress(done, total);
    };
    let cache = cache_shape(&loader, settings.kv_cache_bytes, settings.context_length)?;
    // Experts first: peers may use them while the dense part is still on its way.
    let experts = Arc::new(loader.load_experts(None, &wanted, &mut advance)?);
    check_step(loader.config(), &*experts, settings.step_tokens_max)?;
    let executor = loader.load_executor(cache, settings.context_length, &mut advance)?;
    Ok(LoadedModel { loader, text: ModelText { tokenizer, template }, executor, experts, facts })
}

/// Loads what a later assignment wants beside what it shares with `previous`.
///
/// # Errors
/// As [`load`].
pub fn load_more(
    loader: &ModelLoader,
    previous: &ExpertStore,
    assignment: &Assignment,
    progress: &dyn Fn(u64, u64),
) -> Result<Arc<ExpertStore>, FilesError> {
    check_placement(loader, &assignment.placement)?;
    let wanted = assignment.own_experts();
    let resident: BTreeSet<ExpertAddress> = previous.resident().into_iter().collect();
    let total = loader.expert_bytes() * wanted.difference(&resident).count() as u64;
    let mut done = 0;
    let mut advance = |bytes| {
        done += bytes;
        progress(done, total);
    };
    Ok(Arc::new(loader.load_experts(Some(previous), &wanted, &mut advance)?))
}

fn check_placement(loader: &ModelLoader, placement: &Placement) -> Result<(), FilesError> {
    let experts: BTreeSet<ExpertAddress> = loader.expert_addresses().into_iter().collect();
    // Without the experts of the layer that drafts nothing is missing but drafts: plans of older versions have none.
    let layers = loader.config().layers.len();
    let is_needed = |it: &&ExpertAddress| (it.layer as usize) < layers;
    let mut needed = experts.iter().filter(is_needed);
    if let Some(&address) = needed.find(|it| !placement.copies.contains_key(it)) {
        return Err(FilesError::NotPlaced { address });
    }
    if let Some(&address) = placement.copies.keys().find(|it| !experts.contains(it)) {
        return Err(FilesError::NoSuchExpert { address });
    }
    Ok(())
}

fn cache_shape(
    loader: &ModelLoader,
    given: u64,
    context_length: usize,
) -> Result<CacheShape, FilesError> {
    let block_bytes = loader.cache_block_bytes(CACHE_BLOCK_TOKENS).max(1);
    let block_count = usize::try_from(given / block_bytes).unwrap_or(usize::MAX);
    if block_count == 0 {
        let needed = block_bytes * context_length.div_ceil(CACHE_BLOCK_TOKENS) as u64;
        return Err(FilesError::CacheTooSmall { given, block_bytes, needed });
    }
    Ok(CacheShape { block_tokens: CACHE_BLOCK_TOKENS, block_count })
}

/// All outputs of a step may come from one peer, in one frame.
fn check_step(config: &ModelConfig, experts: &dyn Experts, given: usize) -> Result<(), FilesError> {
    let chosen = config.layers.iter().map(|layer| match layer {
        FeedForward::Moe(moe) => moe.gate.experts_per_token,
        FeedForward::Dense { .. } => 0,
    });
    let row_bytes = experts.row_format().row_bytes(experts.row_length());
    let room = EXCHANGE_FRAME_BYTES_MAX - EXCHANGE_HEADER_BYTES_MAX;
    let token_bytes = chosen.max().unwrap_or(0) * row_bytes;
    let max = room.checked_div(token_bytes).unwrap_or(usize::MAX);
    if given > max { Err(FilesError::StepTooLarge { given, max }) } else { Ok(()) }
}
