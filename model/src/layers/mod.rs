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

/// What stands behind attention.
#[derive(Debug)]
pub enum FeedForwardLayer<B: WeightTypes> {
    Dense(GatedFeedForward<B>),
    Moe(MoeLayer<B>),
}
