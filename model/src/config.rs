//! `config.json` → [`ModelConfig`]: every fact explicit, what is unknown refused by name.

mod deepseek;
mod error;
mod fields;
mod gqa;
mod limits;
mod parse;
mod rope;

pub use error::ConfigError;

/// All facts of one model that the layers need; no field is optional unless the architecture makes it so.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub architecture: Architecture,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub rms_norm_eps: f32,
    /// Longest sequence in tokens (`max_position_embeddings`).
    pub context_length_max: usize,
    pub attention: Attention,
    pub rope: Rope,
    /// One entry for each transformer layer (without MTP layers).
    pub layers: Vec<FeedForward>,
    pub head: Head,
    /// Any of these ends a sequence (`eos_token_id`, also from generation_config.json).
    pub end_token_ids: Vec<u32>,
    pub stored: StoredFormat,
    /// Multi-token-prediction layers after the last one (`num_nextn_predict_layers`). The first of them drafts.
    pub mtp_layer_count: usize,
}

impl ModelConfig {
    /// Every layer with a cache and perhaps experts, the drafting layer last: it is built like the last of the others.
    pub fn layers_with_draft(&self) -> impl Iterator<Item = &FeedForward> {
        let draft = self.layers.last().filter(|_| self.mtp_layer_count > 0);
        self.layers.iter().chain(draft)
    }
}

/// Architectures that Boyle runs, by their name in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    DeepseekV3,
    DeepseekV2,
    Qwen2,
    Llama,
}

/// How queries meet keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Attention {
    Mla(Mla),
    Gqa(Gqa),
}

/// Multi-head latent attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Mla {
    pub head_count: usize,
    /// `None`: queries are projected straight from the hidden state.
    pub q_lora_rank: Option<usize>,
    pub kv_lora_rank: usize,
    pub qk_nope_head_dim: usize,
    pub qk_rope_head_dim: usize,
    pub v_head_dim: usize,
    /// Softmax scale, yarn's mscale² included (engines.md: (nope + rope)^-0.5 · m²).
    pub softmax_scale: f32,
}

/// Grouped-query attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Gqa {
    pub head_count: usize,
    pub kv_head_count: usize,
    pub head_dim: usize,
    pub qkv_bias: Bias,
    pub softmax_scale: f32,
}

/// Whether a projection adds a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    Present,
    Absent,
}

/// Rotary position embedding: the angle of pair `i` at position `p` is `p · inverse_frequencies[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Scaling (yarn, llama3) already applied; length is half of the rotated dimensions.
    pub inverse_frequencies: Vec<f32>,
    /// Factor of cos and sin (yarn's mscale ratio; 1 elsewhere).
    pub amplitude: f32,
    pub pairing: RopePairing,
}

/// Which elements of a head form a rotated pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// (2i, 2i+1): DeepSeek.
    Interleaved,
    /// (i, i + half): Llama, Qwen.
    Halves,
}

/// What stands behind attention in one layer.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    Dense { intermediate_size: usize },
    Moe(Moe),
}

/// One mixture-of-experts layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Moe {
    pub routed_expert_count: usize,
    pub expert_intermediate_size: usize,
    /// Width of all shared experts together; 0 when there are none.
    pub shared_intermediate_size: usize,
    pub gate: Gate,
}

/// How experts are chosen for a row (engines.md section 3.4).
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    pub experts_per_token: usize,
    pub scoring: Scoring,
    pub selection: Selection,
    pub weights: GateWeights,
    pub routed_scaling_factor: f32,
}

/// Gate logits → scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    Sigmoid,
    Softmax,
}

/// Scores → chosen experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The best scores of all experts.
    Greedy,
    /// V2: keep the groups with the best single score.
    GroupLimitedByMax { group_count: usize, groups_kept: usize },
    /// V3 (`noaux_tc`): add the selection bias, keep the groups with the best sum of two scores.
    GroupLimitedByTopTwo { group_count: usize, groups_kept: usize },
}

/// Whether the chosen experts' weights are divided by their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateWeights {
    Normalised,
    AsScored,
}

/// The output projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// `lm_head.weight`.
    Own,
    /// The embedding table (`tie_word_embeddings`).
    TiedToEmbedding,
}

/// How two-dimensional projections are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredFormat {
    /// bf16, f16 or f32 as the file says.
    Plain,
    /// e4m3 with one f32 `weight_scale_inv` for each block; weight = value × scale.
    Fp8Blocks { rows: usize, columns: usize },
}
