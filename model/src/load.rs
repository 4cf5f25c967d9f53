//! A checkpoint folder → an executor and experts on one kernel path.

mod build;
mod names;
mod sinks;

use crate::backend::{Backend, CacheWidth};
use crate::checkpoint::{Checkpoint, CheckpointError, TensorAt};
use crate::config::{Attention, ConfigError, FeedForward, ModelConfig};
use crate::executor::{CacheShape, Executor, ExpertAddress};
use crate::expert_store::{BackendExperts, ExpertStore, Shelf};
use crate::kernels::{CpuBackend, KernelPath, PathUnavailable};
use crate::parallel::{Parallel, Serial};
use crate::reference::ReferenceBackend;
use crate::runner::{Runner, RunnerShape};
use build::{dense_model, draft_tensor, routed_expert};
use sinks::{Check, Load};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub use names::{ModelPart, tensor_names};

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the model's configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error("the model's weights cannot be used")]
    Checkpoint(#[from] CheckpointError),
    #[error("the kernel path cannot be used")]
    Path(#[from] PathUnavailable),
    #[error("the model has no routed expert {} in layer {}", address.expert, address.layer)]
    NoSuchExpert { address: ExpertAddress },
    #[error("a context of {asked} tokens is longer than the model's {max}: ask for at most {max}")]
    ContextTooLong { asked: usize, max: usize },
    #[error(
        "a cache of {} blocks of {} tokens cannot be addressed: neither may be 0, nor their bytes pass the address space",
        shape.block_count, shape.block_tokens
    )]
    CacheShape { shape: CacheShape },
}

/// An opened model: configuration and headers are checked, weights are still on disk.
#[derive(Debug)]
pub struct ModelLoader {
    config: ModelConfig,
    checkpoint: Checkpoint,
    backend: AnyBackend,
    dense_bytes: u64,
    expert_bytes: u64,
}

#[derive(Clone, Debug)]
enum AnyBackend {
    Reference(Arc<ReferenceBackend>),
    Cpu(Arc<CpuBackend>),
}

/// Runs `$body` with `$backend` bound to the backend behind the enum.
macro_rules! on_backend {
    ($any:expr, $backend:ident => $body:expr) => {
        match $any {
            AnyBackend::Reference($backend) => $body,
            AnyBackend::Cpu($backend) => $body,
        }
    };
}

impl ModelLoader {
    /// Reads `config.json` and the checkpoint's headers, and checks that every tensor of the model is there.
    ///
    /// # Errors
    /// [`LoadError`] naming the field, the file and tensor, or the kernel path that cannot be used.
    pub fn open(directory: &Path, path: KernelPath) -> Result<Self, LoadError> {
        Self::open_with(directory, path, Arc::new(Serial))
    }

    /// As [`Self::open`]; what is loaded computes with `parallel`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        directory: &Path,
        path: KernelPath,
        parallel: Arc<dyn Parallel>,
    ) -> Result<Self, LoadError> {
        let backend = match path {
            KernelPath::Reference => AnyBackend::Reference(Arc::new(ReferenceBackend)),
            KernelPath::Portable
            | KernelPath::Avx2
            | KernelPath::Avx512
            | KernelPath::Avx512Bf16 => {
                AnyBackend::Cpu(Arc::new(CpuBackend::with_threads(path, parallel)?))
            }
        };
        let mut config = ModelConfig::read(directory)?;
        let checkpoint = Checkpoint::open(directory)?;
        // Many published conversions leave the layer out and the field in.
        if !checkpoint.contains(&draft_tensor(&config)) {
            config.mtp_layer_count = 0;
        }
        let (dense_bytes, expert_bytes) =
            on_backend!(&backend, backend => check(&config, &checkpoint, &**backend))?;
        Ok(Self { config, checkpoint, backend, dense_bytes, expert_bytes })
    }

    /// The model's facts; without a drafting layer when the checkpoint has none.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Every routed expert of the model, ascending.
    pub fn expert_addresses(&self) -> Vec<ExpertAddress> {
        expert_addresses(&self.config)
    }

    /// Bytes in memory of everything but the routed experts.
    pub fn dense_bytes(&self) -> u64 {
        self.dense_bytes
    }

    /// Bytes in memory of one routed expert (the largest, should they differ); 0 for a dense model.
    pub fn expert_bytes(&self) -> u64 {
        self.expert_bytes
    }

    /// Every tensor of the checkpoint, ascending by name, also those that the model does not use.
    pub fn tensors(&self) -> impl Iterator<Item = TensorAt<'_>> {
        self.checkpoint.tensors()
    }

    /// The tensors of one part of the model.
    ///
    /// # Errors
    /// [`LoadError::NoSuchExpert`].
    pub fn part(&self, part: ModelPart) -> Result<Vec<TensorAt<'_>>, LoadError> {
        let names = tensor_names(&self.config, part)?;
        Ok(names.iter().filter_map(|name| self.checkpoint.place(name)).collect())
    }

    /// Bytes of one cache block over all layers.
    pub fn cache_block_bytes(&self, block_tokens: usize) -> u64 {
        let width = cache_width(&self.config.attention);
        let position = on_backend!(&self.backend, backend => backend.cache_position_bytes(width));
        let layers = self.config.layers_with_draft().count() as u64;
        (position * layers).saturating_mul(block_tokens as u64)
    }

    /// Loads the dense part and makes room for the cache. `progress` gets the bytes newly in memory.
    ///
    /// # Errors
    /// [`LoadError`] for a cache or context that cannot be, or a tensor that cannot be used.
    pub fn load_executor(
        &self,
        cache: CacheShape,
        context_length: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Box<dyn Executor>, LoadError> {
        let max = self.config.context_length_max;
        if context_length > max {
            return Err(LoadError::ContextTooLong { asked: context_length, max });
        }
        self.check_cache(cache)?;
        let shape = RunnerShape {
            vocab_size: self.config.vocab_size,
            hidden_size: self.config.hidden_size,
            rms_norm_eps: self.config.rms_norm_eps,
            rope: self.config.rope.clone(),
            cache,
            context_length,
        };
        on_backend!(&self.backend, backend => {
            let mut sink = Load { checkpoint: &self.checkpoint, backend: &**backend, progress };
            let model = dense_model(&self.config, &mut sink)?;
            let width = cache_width(&self.config.attention);
            let layers = self.config.layers_with_draft();
            let caches = layers.map(|_| backend.cache(width, cache)).collect();
            Ok(Box::new(Runner::new(Arc::clone(backend), model, caches, shape)))
        })
    }

    /// Loads the experts that are wanted and not in `previous`, shares those that are, and leaves the rest out.
    /// `progress` gets the bytes newly in memory.
    ///
    /// # Errors
    /// [`LoadError`] for an expert that the model does not have, or a tensor that cannot be used.
    pub fn load_experts(
        &self,
        previous: Option<&ExpertStore>,
        wanted: &BTreeSet<ExpertAddress>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<ExpertStore, LoadError> {
        let shelf = match &self.backend {
            AnyBackend::Reference(backend) => {
                let previous = previous.and_then(|store| match &store.shelf {
                    Shelf::Reference(experts) => Some(&experts.experts),
                    Shelf::Cpu(_) => None,
                });
                Shelf::Reference(self.experts_on(backend, previous, wanted, progress)?)
            }
            AnyBackend::Cpu(backend) => {
                let previous = previous.and_then(|store| match &store.shelf {
                    Shelf::Cpu(experts) => Some(&experts.experts),
                    Shelf::Reference(_) => None,
                });
                Shelf::Cpu(self.experts_on(backend, previous, wanted, progress)?)
            }
        };
        Ok(ExpertStore { shelf })
    }

    fn experts_on<B: Backend>(
        &self,
        backend: &Arc<B>,
        previous: Option<&LoadedExperts<B>>,
        wanted: &BTreeSet<ExpertAddress>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BackendExperts<B>, LoadError> {
        let mut experts = BTreeMap::new();
        for &address in wanted {
            let expert = match previous.and_then(|experts| experts.get(&address)) {
                Some(expert) => Arc::clone(expert),
                None => {
                    let mut sink =
                        Load { checkpoint: &self.checkpoint, backend: &**backend, progress };
                    Arc::new(routed_expert(&self.config, &mut sink, address)?)
                }
            };
            experts.insert(address, expert);
        }
        let row_length = self.config.hidden_size;
        Ok(BackendExperts { backend: Arc::clone(backend), row_length, experts })
    }

    fn check_cache(&self, shape: CacheShape) -> Result<(), LoadError> {
        let layer_bytes = self.cache_block_bytes(1) as usize;
        let bytes = shape
            .block_count
            .checked_mul(shape.block_tokens)
            .and_then(|positions| positions.checked_mul(layer_bytes));
        let addressable = bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok())
            && u32::try_from(shape.block_count).is_ok();
        if addressable && shape.block_tokens > 0 && shape.block_count > 0 {
            Ok(())
        } else {
            Err(LoadError::CacheShape { shape })
        }
    }
}

type LoadedExperts<B> =
    BTreeMap<ExpertAddress, Arc<crate::layers::feed_forward::GatedFeedForward<B>>>;

fn check<B: Backend>(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    backend: &B,
) -> Result<(u64, u64), LoadError> {
    let mut dense = Check { checkpoint, backend, bytes: 0 };
    dense_model(config, &mut dense)?;
    let mut expert_bytes = 0;
    for address in expert_addresses(config) {
        let mut expert = Check { checkpoint, backend, bytes: 0 };
        routed_expert(config, &mut expert, address)?;
        expert_bytes = expert_bytes.max(expert.bytes);
    }
    Ok((dense.bytes, expert_bytes))
}

fn expert_addresses(config: &ModelConfig) -> Vec<ExpertAddress> {
    let layers = config.layers_with_draft().enumerate();
    layers
        .flat_map(|(layer, feed_forward)| {
            let count = match feed_forward {
                FeedForward::Dense { .. } => 0,
                FeedForward::Moe(moe) => moe.routed_expert_count as u32,
            };
            (0..count).map(move |expert| ExpertAddress { layer: layer as u32, expert })
        })
        .collect()
}

fn cache_width(attention: &Attention) -> CacheWidth {
    match attention {
        Attention::Mla(mla) => {
            CacheWidth::Latent { latent: mla.kv_lora_rank, rope: mla.qk_rope_head_dim }
        }
        Attention::Gqa(gqa) => {
            CacheWidth::KeysValues { kv_heads: gqa.kv_head_count, head_dim: gqa.head_dim }
        }
    }
}
