//! Multi-head latent attention and grouped-query attention.

use crate::backend::{Backend, Latent, Split, WeightTypes};
use crate::config::{Gqa, Mla, RopePairing};

/// The norms of compressed queries and latents have their own eps, whatever `rms_norm_eps` says (a checkpoint may
/// write 1e-5 there): DeepSeek's modelling code and Hugging Face's leave it at its default.
const COMPRESSED_NORM_EPS: f32 = 1e-6;

/// What attention needs from outside its own weights.
#[derive(Debug)]
pub struct Pass<'a, B: Backend> {
    pub backend: &'a B,
    pub rows: &'a B::Rows,
    pub pairing: RopePairing,
}

/// Attention of one layer.
#[derive(Debug)]
pub enum AttentionLayer<B: WeightTypes> {
    Mla(Box<MlaLayer<B>>),
    Gqa(Box<GqaLayer<B>>),
}

impl<B: Backend> AttentionLayer<B> {
    /// Caches the rows, then lets each attend to itself and everything before it: `[rows, hidden]`.
    pub fn forward(
        &self,
        pass: &Pass<'_, B>,
        input: &B::Tensor,
        cache: &mut B::Cache,
    ) -> B::Tensor {
        match self {
            Self::Mla(layer) => layer.forward(pass, input, cache),
            Self::Gqa(layer) => layer.forward(pass, input, cache),
        }
    }
}

/// Multi-head latent attention, always in absorbed form: prefill and decode round alike.
#[derive(Debug)]
pub struct MlaLayer<B: WeightTypes> {
    pub shape: Mla,
    pub query: MlaQuery<B>,
    /// `[kv_lora_rank + qk_rope_head_dim, hidden]`
    pub kv_a: B::Matrix,
    /// `[kv_lora_rank]`
    pub kv_a_norm: B::Vector,
    /// W_UK turned: one `[kv_lora_rank, qk_nope_head_dim]` for each head.
    pub key_up: B::Matrix,
    /// W_UV: one `[v_head_dim, kv_lora_rank]` for each head.
    pub value_up: B::Matrix,
    /// `[hidden, heads · v_head_dim]`
    pub output: B::Matrix,
}

/// Hidden state → queries `[rows, heads · (nope + rope)]`.
#[derive(Debug)]
pub enum MlaQuery<B: WeightTypes> {
    /// `[heads · (nope + rope), hidden]`
    Direct(B::Matrix),
    Compressed {
        /// `[q_lora_rank, hidden]`
        down: B::Matrix,
        /// `[q_lora_rank]`
        norm: B::Vector,
        /// `[heads · (nope + rope), q_lora_rank]`
        up: B::Matrix,
    },
}

impl<B: Backend> MlaQuery<B> {
    fn forward(&self, pass: &Pass<'_, B>, input: &B::Tensor) -> B::Tensor {
        let backend = pass.backend;
        match self {
            Self::Direct(matrix) => backend.project(input, matrix, None),
            Self::Compressed { down, norm, up } => {
                let compressed = backend.project(input, down, None);
                let compressed = backend.rms_norm(&compressed, norm, COMPRESSED_NORM_EPS);
                backend.project(&compressed, up, None)
            }
        }
    }
}

impl<B: Backend> MlaLayer<B> {
    fn forward(&self, pass: &Pass<'_, B>, input: &B::Tensor, cache: &mut B::Cache) -> B::Tensor {
        let (backend, rows, shape) = (pass.backend, pass.rows, &self.shape);

        let query = self.query.forward(pass, input);
        let (q_nope, mut q_rope) = backend.split(
            &query,
            Split {
                groups: shape.head_count,
                first: shape.qk_nope_head_dim,
                second: shape.qk_rope_head_dim,
            },
        );
        backend.rope(&mut q_rope, rows, pass.pairing);
        let q_latent = backend.project(&q_nope, &self.key_up, None);

        let key = backend.project(input, &self.kv_a, None);
        let (c_kv, mut k_rope) = backend.split(
            &key,
            Split { groups: 1, first: shape.kv_lora_rank, second: shape.qk_rope_head_dim },
        );
        let c_kv = backend.rms_norm(&c_kv, &self.kv_a_norm, COMPRESSED_NORM_EPS);
        backend.rope(&mut k_rope, rows, pass.pairing);
        backend.store_latent(cache, rows, Latent { latent: &c_kv, rope: &k_rope });

        let query = Latent { latent: &q_latent, rope: &q_rope };
        let attended = backend.attend_latent(cache, rows, query, shape.softmax_scale);
        let values = backend.project(&attended, &self.value_up, None);
        backend.project(&values, &self.output, None)
    }
}

/// Grouped-query attention.
#[derive(Debug)]
pub struct GqaLayer<B: WeightTypes> {
    pub shape: Gqa,
    /// `[heads · head_dim, hidden]`
    pub query: Biased<B>,
    /// `[kv_heads · head_dim, hidden]`
    pub key: Biased<B>,
    /// `[kv_heads · head_dim, hidden]`
    pub value: Biased<B>,
    /// `[hidden, heads · head_dim]`
    pub output: B::Matrix,
}

/// A projection that may have a bias.
#[derive(Debug)]
pub struct Biased<B: WeightTypes> {
    pub weight: B::Matrix,
    pub bias: Option<B::Vector>,
}

impl<B: Backend> Biased<B> {
    fn forward(&self, backend: &B, input: &B::Tensor) -> B::Tensor {
        backend.project(input, &self.weight, self.bias.as_ref())
    }
}

impl<B: Backend> GqaLayer<B> {
    fn forward(&self, pass: &Pass<'_, B>, input: &B::Tensor, cache: &mut B::Cache) -> B::Tensor {
        let (backend, rows) = (pass.backend, pass.rows);
        let mut query = self.query.forward(backend, input);
        let mut key = self.key.forward(backend, input);
        let value = self.value.forward(backend, input);
        backend.rope(&mut query, rows, pass.pairing);
        backend.rope(&mut key, rows, pass.pairing);
        backend.store_keys_values(cache, rows, &key, &value);
        let attended = backend.attend_grouped(cache, rows, &query, self.shape.softmax_scale);
        backend.project(&attended, &self.output, None)
    }
}
