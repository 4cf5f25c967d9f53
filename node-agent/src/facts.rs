//! What a planner must know of a model, read from its configuration and headers.

use crate::fingerprint::{self, FingerprintError};
use model::checkpoint::TensorAt;
use model::kernels::KernelPath;
use model::load::{LoadError, ModelLoader};
use model::template::{ChatTemplate, TemplateError};
use model::tokenizer::{Tokenizer, TokenizerError};
use proto::v1::ModelFacts;
use std::path::Path;

/// A folder whose facts cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("the model cannot be used")]
    Model(#[from] LoadError),
    #[error("the model's tokeniser cannot be used")]
    Tokenizer(#[from] TokenizerError),
    #[error("the model's chat template cannot be used")]
    Template(#[from] TemplateError),
    #[error("the model has no fingerprint")]
    Fingerprint(#[from] FingerprintError),
}

/// Reads the facts of the model in `directory`; of the weights, headers and samples are read. `revision` is what the
/// source resolved to.
///
/// # Errors
/// [`FactsError`] naming file, field or tensor: also when the tokeniser or the template could not be used later.
pub fn read(directory: &Path, revision: &str) -> Result<(ModelLoader, ModelFacts), FactsError> {
    // Sizes in memory are those of the path that this machine takes when nothing else is asked for.
    let loader = ModelLoader::open(directory, KernelPath::best())?;
    Tokenizer::open(directory)?;
    ChatTemplate::open(directory)?;
    let facts = of(&loader, directory, revision)?;
    Ok((loader, facts))
}

/// The facts of an opened model.
///
/// # Errors
/// [`FingerprintError`] naming the file.
pub fn of(
    loader: &ModelLoader,
    directory: &Path,
    revision: &str,
) -> Result<ModelFacts, FingerprintError> {
    let tensors: Vec<TensorAt<'_>> = loader.tensors().collect();
    let config = loader.config();
    let addresses = loader.expert_addresses();
    let mut moe_layers: Vec<u32> = addresses.iter().map(|address| address.layer).collect();
    moe_layers.dedup();
    Ok(ModelFacts {
        fingerprint: fingerprint::of(directory, &tensors)?,
        moe_layers,
        experts_per_layer: addresses.iter().map(|address| address.expert + 1).max().unwrap_or(0),
        dense_bytes: loader.dense_bytes(),
        expert_bytes: loader.expert_bytes(),
        context_length_max: u32::try_from(config.context_length_max).unwrap_or(u32::MAX),
        cache_token_bytes: loader.cache_block_bytes(1),
        architecture: config.architecture.name().to_owned(),
        revision: revision.to_owned(),
    })
}
