//! Runs passes with all experts at hand.

use model::executor::{
    Batch, BlockId, CacheShape, Executor, Experts, Logits, LogitsWanted, Segment,
};
use model::expert_store::ExpertStore;
use model::kernels::KernelPath;
use model::load::ModelLoader;
use model::oracle::run_pass;
use std::path::Path;

pub const BLOCK_TOKENS: usize = 8;

/// A loaded model with all its experts in one store.
pub struct Model {
    pub loader: ModelLoader,
    pub executor: Box<dyn Executor>,
    pub experts: ExpertStore,
}

impl Model {
    /// Loads with room for `block_count` cache blocks.
    pub fn load(directory: &Path, path: KernelPath, block_count: usize) -> Self {
        Self::of(ModelLoader::open(directory, path).unwrap(), block_count)
    }

    /// As [`Self::load`], of an opened model.
    pub fn of(loader: ModelLoader, block_count: usize) -> Self {
        let cache = CacheShape { block_tokens: BLOCK_TOKENS, block_count };
        let context = loader.config().context_length_max.min(BLOCK_TOKENS * block_count);
        let executor = loader.load_executor(cache, context, &mut |_| {}).unwrap();
        let everything = loader.expert_addresses().into_iter().collect();
        let experts = loader.load_experts(None, &everything, &mut |_| {}).unwrap();
        Self { loader, executor, experts }
    }

    /// Runs one pass with the model's own experts.
    pub fn pass(&mut self, segments: Vec<Segment>) -> Logits {
        self.pass_with(segments, &self.experts.clone())
    }

    /// Runs one pass with other experts.
    pub fn pass_with(&mut self, segments: Vec<Segment>, experts: &dyn Experts) -> Logits {
        run_pass(&mut *self.executor, experts, Batch { segments }).unwrap()
    }
}

/// A segment that wants logits.
pub fn segment(token_ids: &[u32], position: usize, blocks: &[u32]) -> Segment {
    Segment {
        token_ids: token_ids.to_vec(),
        position,
        blocks: blocks.iter().copied().map(BlockId).collect(),
        logits: LogitsWanted::LastToken,
    }
}

/// Values as bits: equal means equal.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Some tokens, the same every time.
pub fn tokens(count: usize, seed: u32, vocab_size: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % vocab_size as u32
        })
        .collect()
}
