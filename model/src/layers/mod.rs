//! The model's structure, written once over any [`crate::backend::Backend`].

pub mod attention;
pub mod feed_forward;

use crate::backend::WeightTypes;
use attention::AttentionLayer;
use feed_forward::{GatedFeedForward, MoeLayer};

/// All weights that every agent holds: everything but the routed experts.
#[derive(Debug)]
pub struct DenseModel<B: WeightTypes> {
    pub embedding: B::Table,
    pub layers: Vec<Layer<B>>,
    pub draft: Option<DraftLayer<B>>,
    /// `[hidden]`
    pub norm: B::Vector,
    /// `[vocab, hidden]`
    pub head: B::Matrix,
}

/// `x += attention(norm(x)); x += feed_forward(norm(x))`.
#[derive(Debug)]
pub struct Layer<B: WeightTypes> {
    /// `[hidden]`
    pub attention_norm: B::Vector,
    pub attention: AttentionLayer<B>,
    /// `[hidden]`
    pub feed_forward_norm: B::Vector,
    pub feed_forward: FeedForwardLayer<B>,
}

/// The multi-token-prediction layer: from the state `h` at position `i` and the token at `i + 1` to the one at `i + 2`,
/// `head(norm(layer(W_t · token_norm(embedding) + W_h · state_norm(h))))`.
#[derive(Debug)]
pub struct DraftLayer<B: WeightTypes> {
    /// `enorm`, `[hidden]`
    pub token_norm: B::Vector,
    /// `hnorm`, `[hidden]`
    pub state_norm: B::Vector,
    /// Left half of `eh_proj`, `[hidden, hidden]`: meets the embedding.
    pub token_projection: B::Matrix,
    /// Right half of `eh_proj`, `[hidden, hidden]`: meets the state.
    pub state_projection: B::Matrix,
    pub layer: Layer<B>,
    /// `shared_head.norm`, in the place of the model's norm: `[hidden]`
    pub norm: B::Vector,
}

/// What stands behind attention.
#[derive(Debug)]
pub enum FeedForwardLayer<B: WeightTypes> {
    Dense(GatedFeedForward<B>),
    Moe(MoeLayer<B>),
}
