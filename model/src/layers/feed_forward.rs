//! SwiGLU networks: dense layers, shared experts and routed experts are the same thing.

use crate::backend::{Backend, Routing, WeightTypes};
use crate::config::Gate;

/// `down(silu(gate(x)) · up(x))`.
#[derive(Debug)]
pub struct GatedFeedForward<B: WeightTypes + ?Sized> {
    /// `[intermediate, hidden]`
    pub gate: B::Matrix,
    /// `[intermediate, hidden]`
    pub up: B::Matrix,
    /// `[hidden, intermediate]`
    pub down: B::Matrix,
}

impl<B: Backend + ?Sized> GatedFeedForward<B> {
    /// `[rows, hidden]` → `[rows, hidden]`.
    pub fn forward(&self, backend: &B, input: &B::Tensor) -> B::Tensor {
        let mut gate = backend.project(input, &self.gate, None);
        let up = backend.project(input, &self.up, None);
        backend.silu_mul(&mut gate, &up);
        backend.project(&gate, &self.down, None)
    }
}

/// Gate and shared experts of a MoE layer; its routed experts live elsewhere.
#[derive(Debug)]
pub struct MoeLayer<B: WeightTypes> {
    /// `[experts, hidden]`, exact.
    pub gate_weight: B::Matrix,
    /// `[experts]`
    pub gate_bias: Option<B::Vector>,
    pub gate: Gate,
    /// All shared experts as one network.
    pub shared: Option<GatedFeedForward<B>>,
}

impl<B: Backend> MoeLayer<B> {
    /// Experts of every row.
    pub fn route(&self, backend: &B, input: &B::Tensor) -> Routing {
        backend.gate(input, &self.gate_weight, self.gate_bias.as_ref(), &self.gate)
    }
}
