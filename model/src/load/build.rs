//! Which tensors a model is made of, by their names in the checkpoint; stated once, for checking and for loading.

use super::LoadError;
use crate::backend::{MatrixLayout, MatrixSize, Precision, WeightTypes};
use crate::config::{
    Attention, Bias, FeedForward, Gqa, Head, Mla, ModelConfig, Moe, Selection, StoredFormat,
};
use crate::executor::ExpertAddress;
use crate::layers::attention::{AttentionLayer, Biased, GqaLayer, MlaLayer, MlaQuery};
use crate::layers::feed_forward::{GatedFeedForward, MoeLayer};
use crate::layers::{DenseModel, DraftLayer, FeedForwardLayer, Layer};

const EMBEDDING: &str = "model.embed_tokens.weight";

/// The tensor that only a drafting layer has.
pub(super) fn draft_tensor(config: &ModelConfig) -> String {
    format!("model.layers.{}.eh_proj.weight", config.layers.len())
}

/// Takes tensors one by one and keeps them, or only looks at them.
pub(super) trait WeightSink {
    type Weights: WeightTypes;

    fn matrix(&mut self, part: &MatrixPart) -> Result<Matrix<Self>, LoadError>;
    fn vector(&mut self, name: &str, length: usize) -> Result<Vector<Self>, LoadError>;
    fn table(&mut self, name: &str, size: MatrixSize) -> Result<Table<Self>, LoadError>;
    /// `kv_b_proj` as W_UK, turned, and W_UV, one block for each head.
    fn key_value_up(
        &mut self,
        part: &KeyValueUp,
    ) -> Result<(Matrix<Self>, Matrix<Self>), LoadError>;
    /// The left and the right half of a projection's columns, `part.size` being that of a half.
    fn column_halves(
        &mut self,
        part: &MatrixPart,
    ) -> Result<(Matrix<Self>, Matrix<Self>), LoadError>;
}

type Matrix<S> = <<S as WeightSink>::Weights as WeightTypes>::Matrix;
type Vector<S> = <<S as WeightSink>::Weights as WeightTypes>::Vector;
type Table<S> = <<S as WeightSink>::Weights as WeightTypes>::Table;

/// One projection.
#[derive(Clone, Debug)]
pub(super) struct MatrixPart {
    pub name: String,
    pub size: MatrixSize,
    pub format: StoredFormat,
    pub layout: MatrixLayout,
}

/// `kv_b_proj`: for each head `nope` rows of W_UK and then `value` rows of W_UV, `latent` columns.
#[derive(Clone, Debug)]
pub(super) struct KeyValueUp {
    pub name: String,
    pub format: StoredFormat,
    pub heads: usize,
    pub nope: usize,
    pub value: usize,
    pub latent: usize,
}

impl KeyValueUp {
    /// Turned blocks have their scales along the wrong side, so FP8 is kept as exact f32 here.
    pub(super) fn layout(&self) -> MatrixLayout {
        let precision = match self.format {
            StoredFormat::Plain => Precision::Working,
            StoredFormat::Fp8Blocks { .. } => Precision::Exact,
        };
        MatrixLayout { groups: self.heads, precision }
    }

    /// Of the stored tensor.
    pub(super) fn size(&self) -> MatrixSize {
        MatrixSize { rows: self.heads * (self.nope + self.value), columns: self.latent }
    }

    /// Of the turned W_UK.
    pub(super) fn key_size(&self) -> MatrixSize {
        MatrixSize { rows: self.heads * self.latent, columns: self.nope }
    }

    /// Of W_UV.
    pub(super) fn value_size(&self) -> MatrixSize {
        MatrixSize { rows: self.heads * self.value, columns: self.latent }
    }
}

/// Everything but the routed experts.
pub(super) fn dense_model<S: WeightSink>(
    config: &ModelConfig,
    sink: &mut S,
) -> Result<DenseModel<S::Weights>, LoadError> {
    let size = MatrixSize { rows: config.vocab_size, columns: config.hidden_size };
    let embedding = sink.table(EMBEDDING, size)?;
    let mut layers = Vec::with_capacity(config.layers.len());
    for (index, feed_forward) in config.layers.iter().enumerate() {
        let mut parts = LayerParts { config, prefix: format!("model.layers.{index}"), sink };
        layers.push(parts.layer(feed_forward)?);
    }
    let draft = match config.layers.last() {
        Some(feed_forward) if config.mtp_layer_count > 0 => {
            let prefix = format!("model.layers.{}", config.layers.len());
            Some(LayerParts { config, prefix, sink }.draft(feed_forward)?)
        }
        Some(_) | None => None,
    };
    let norm = sink.vector("model.norm.weight", config.hidden_size)?;
    let head = match config.head {
        Head::Own => "lm_head.weight",
        Head::TiedToEmbedding => EMBEDDING,
    };
    let head = sink.matrix(&MatrixPart {
        name: head.to_owned(),
        size,
        format: StoredFormat::Plain,
        layout: MatrixLayout { groups: 1, precision: Precision::Rounded },
    })?;
    Ok(DenseModel { embedding, layers, draft, norm, head })
}

/// One routed expert of a MoE layer.
pub(super) fn routed_expert<S: WeightSink>(
    config: &ModelConfig,
    sink: &mut S,
    address: ExpertAddress,
) -> Result<GatedFeedForward<S::Weights>, LoadError> {
    let moe = match config.layers_with_draft().nth(address.layer as usize) {
        Some(FeedForward::Moe(moe)) if (address.expert as usize) < moe.routed_expert_count => moe,
        _ => return Err(LoadError::NoSuchExpert { address }),
    };
    let prefix = format!("model.layers.{}", address.layer);
    let network = format!("mlp.experts.{}", address.expert);
    LayerParts { config, prefix, sink }.network(&network, moe.expert_intermediate_size)
}

/// How a projection is kept that is stored in this format.
fn precision(format: StoredFormat) -> Precision {
    match format {
        StoredFormat::Plain => Precision::Working,
        StoredFormat::Fp8Blocks { columns, .. } => Precision::ScaledBlocks { columns },
    }
}

/// The tensors of one layer.
struct LayerParts<'a, S> {
    config: &'a ModelConfig,
    /// `model.layers.{i}`
    prefix: String,
    sink: &'a mut S,
}

impl<S: WeightSink> LayerParts<'_, S> {
    fn layer(&mut self, feed_forward: &FeedForward) -> Result<Layer<S::Weights>, LoadError> {
        let hidden = self.config.hidden_size;
        let attention_norm = self.vector("input_layernorm.weight", hidden)?;
        let attention = match &self.config.attention {
            Attention::Mla(shape) => AttentionLayer::Mla(Box::new(self.mla(shape)?)),
            Attention::Gqa(shape) => AttentionLayer::Gqa(Box::new(self.gqa(shape)?)),
        };
        let feed_forward_norm = self.vector("post_attention_layernorm.weight", hidden)?;
        let feed_forward = match feed_forward {
            FeedForward::Dense { intermediate_size } => {
                FeedForwardLayer::Dense(self.network("mlp", *intermediate_size)?)
            }
            FeedForward::Moe(moe) => FeedForwardLayer::Moe(self.moe(moe)?),
        };
        Ok(Layer { attention_norm, attention, feed_forward_norm, feed_forward })
    }

    /// The layer's own copies of embedding and head are left out: they are the model's.
    fn draft(&mut self, feed_forward: &FeedForward) -> Result<DraftLayer<S::Weights>, LoadError> {
        let hidden = self.config.hidden_size;
        let token_norm = self.vector("enorm.weight", hidden)?;
        let state_norm = self.vector("hnorm.weight", hidden)?;
        // Never FP8, whatever the other projections are.
        let (token_projection, state_projection) = self.sink.column_halves(&MatrixPart {
            name: format!("{}.eh_proj.weight", self.prefix),
            size: MatrixSize { rows: hidden, columns: hidden },
            format: StoredFormat::Plain,
            layout: MatrixLayout::PROJECTION,
        })?;
        let layer = self.layer(feed_forward)?;
        let norm = self.vector("shared_head.norm.weight", hidden)?;
        Ok(DraftLayer { token_norm, state_norm, token_projection, state_projection, layer, norm })
    }

    fn mla(&mut self, shape: &Mla) -> Result<MlaLayer<S::Weights>, LoadError> {
        let (heads, hidden, latent) =
            (shape.head_count, self.config.hidden_size, shape.kv_lora_rank);
        let queries = heads * (shape.qk_nope_head_dim + shape.qk_rope_head_dim);
        let query = match shape.q_lora_rank {
            None => MlaQuery::Direct(self.projection("self_attn.q_proj", queries, hidden)?),
            Some(rank) => MlaQuery::Compressed {
                down: self.projection("self_attn.q_a_proj", rank, hidden)?,
                norm: self.vector("self_attn.q_a_layernorm.weight", rank)?,
                up: self.projection("self_attn.q_b_proj", queries, rank)?,
            },
        };
        let kv_a = latent + shape.qk_rope_head_dim;
        let kv_a = self.projection("self_attn.kv_a_proj_with_mqa", kv_a, hidden)?;
        let kv_a_norm = self.vector("self_attn.kv_a_layernorm.weight", latent)?;
        let (key_up, value_up) = self.sink.key_value_up(&KeyValueUp {
            name: format!("{}.self_attn.kv_b_proj.weight", self.prefix),
            format: self.config.stored,
            heads,
            nope: shape.qk_nope_head_dim,
            value: shape.v_head_dim,
            latent,
        })?;
        let output = self.projection("self_attn.o_proj", hidden, heads * shape.v_head_dim)?;
        Ok(MlaLayer { shape: shape.clone(), query, kv_a, kv_a_norm, key_up, value_up, output })
    }

    fn gqa(&mut self, shape: &Gqa) -> Result<GqaLayer<S::Weights>, LoadError> {
        let queries = shape.head_count * shape.head_dim;
        let keys = shape.kv_head_count * shape.head_dim;
        Ok(GqaLayer {
            shape: shape.clone(),
            query: self.biased("self_attn.q_proj", queries, shape.qkv_bias)?,
            key: self.biased("self_attn.k_proj", keys, shape.qkv_bias)?,
            value: self.biased("self_attn.v_proj", keys, shape.qkv_bias)?,
            output: self.projection("self_attn.o_proj", self.config.hidden_size, queries)?,
        })
    }

    fn moe(&mut self, moe: &Moe) -> Result<MoeLayer<S::Weights>, LoadError> {
        let size = MatrixSize { rows: moe.routed_expert_count, columns: self.config.hidden_size };
        let gate_weight = self.sink.matrix(&MatrixPart {
            name: format!("{}.mlp.gate.weight", self.prefix),
            size,
            format: StoredFormat::Plain,
            layout: MatrixLayout { groups: 1, precision: Precision::Exact },
        })?;
        let gate_bias = match moe.gate.selection {
            Selection::GroupLimitedByTopTwo { .. } => {
                Some(self.vector("mlp.gate.e_score_correction_bias", size.rows)?)
            }
            Selection::Greedy | Selection::GroupLimitedByMax { .. } => None,
        };
        let shared = match moe.shared_intermediate_size {
            0 => None,
            width => Some(self.network("mlp.shared_experts", width)?),
        };
        Ok(MoeLayer { gate_weight, gate_bias, gate: moe.gate.clone(), shared })
    }

    fn network(
        &mut self,
        name: &str,
        intermediate: usize,
    ) -> Result<GatedFeedForward<S::Weights>, LoadError> {
        let hidden = self.config.hidden_size;
        Ok(GatedFeedForward {
            gate: self.projection(&format!("{name}.gate_proj"), intermediate, hidden)?,
            up: self.projection(&format!("{name}.up_proj"), intermediate, hidden)?,
            down: self.projection(&format!("{name}.down_proj"), hidden, intermediate)?,
        })
    }

    fn biased(
        &mut self,
        name: &str,
        rows: usize,
        bias: Bias,
    ) -> Result<Biased<S::Weights>, LoadError> {
        let weight = self.projection(name, rows, self.config.hidden_size)?;
        let bias = match bias {
            Bias::Present => Some(self.vector(&format!("{name}.bias"), rows)?),
            Bias::Absent => None,
        };
        Ok(Biased { weight, bias })
    }

    fn projection(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix<S>, LoadError> {
        self.sink.matrix(&MatrixPart {
            name: format!("{}.{name}.weight", self.prefix),
            size: MatrixSize { rows, columns },
            format: self.config.stored,
            layout: MatrixLayout { groups: 1, precision: precision(self.config.stored) },
        })
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vector<S>, LoadError> {
        self.sink.vector(&format!("{}.{name}", self.prefix), length)
    }
}
