//! What a forward pass must read and compute at least, and how fast a machine can do that.
//!
//! Knows no clock and measures nothing: facts of a model and of a machine in, a limit out.

use model::config::{Attention, FeedForward, ModelConfig, Moe};
use serde::Serialize;

/// What a model costs.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCost {
    /// Bytes in memory that every pass reads: everything but the routed experts and the embedding table, of which a
    /// pass reads its tokens' rows only.
    pub dense_bytes: f64,
    /// Bytes in memory of one routed expert.
    pub expert_bytes: f64,
    /// Bytes in the cache for one position, all layers together.
    pub position_bytes: f64,
    /// Parameters that one token meets, without embedding and head.
    pub active_parameters: f64,
    /// Parameters of the head.
    pub head_parameters: f64,
    /// FLOP of attention for one token and one position behind it, all layers together.
    pub position_flop: f64,
    /// Routed experts and those chosen for a token, of each mixture-of-experts layer.
    pub routed: Vec<Routed>,
}

/// One layer's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    pub experts: usize,
    pub chosen: usize,
}

/// Bytes in memory as a loader knows them.
#[derive(Clone, Copy, Debug)]
pub struct LoadedBytes {
    pub dense: u64,
    pub expert: u64,
    pub cache_position: u64,
    /// Bytes of one value of the embedding table.
    pub table_value: u64,
}

/// One forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    /// Tokens in it.
    pub rows: usize,
    /// Rows whose logits are wanted.
    pub logits: usize,
    /// Cached positions that all rows together attend to and that must be read from memory.
    pub positions: f64,
}

/// What a machine can do with all its threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineLimits {
    pub read_bytes_per_second: f64,
    pub f32_flop_per_second: f64,
    /// Where the processor has bf16 dot products.
    pub bf16_flop_per_second: Option<f64>,
}

/// What stands in the way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    Memory,
    Compute,
}

/// The least that a pass takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassLimit {
    pub bytes: f64,
    pub flop: f64,
    pub seconds: f64,
    pub bound: Bound,
}

impl MachineLimits {
    /// The faster of both kinds of arithmetic: a slower path is measured against the same machine.
    pub fn flop_per_second(&self) -> f64 {
        self.bf16_flop_per_second.unwrap_or(0.0).max(self.f32_flop_per_second)
    }
}

impl ModelCost {
    pub fn new(config: &ModelConfig, bytes: LoadedBytes) -> Self {
        let table = config.vocab_size as u64 * config.hidden_size as u64;
        let layers = config.layers.len() as f64;
        let networks: f64 = config.layers.iter().map(|layer| network(config, layer)).sum();
        let routed = config.layers.iter().filter_map(|layer| match layer {
            FeedForward::Dense { .. } => None,
            FeedForward::Moe(moe) => Some(Routed {
                experts: moe.routed_expert_count,
                chosen: moe.gate.experts_per_token,
            }),
        });
        Self {
            dense_bytes: bytes.dense.saturating_sub(table * bytes.table_value) as f64,
            expert_bytes: bytes.expert as f64,
            position_bytes: bytes.cache_position as f64,
            active_parameters: layers * attention(config) + networks,
            head_parameters: table as f64,
            position_flop: layers * attention_flop(&config.attention),
            routed: routed.collect(),
        }
    }

    /// Bytes that a pass reads at least: dense weights + experts + cache.
    ///
    /// Of a layer's `E` experts with `k` chosen for each of `n` rows, uniformly, `E · (1 − (1 − k/E)ⁿ)` are expected
    /// to be chosen by any row, and each is read once.
    pub fn bytes(&self, pass: Pass) -> f64 {
        let touched: f64 = self.routed.iter().map(|layer| layer.touched(pass.rows)).sum();
        self.dense_bytes + touched * self.expert_bytes + pass.positions * self.position_bytes
    }

    /// Operations of a pass: 2 for each parameter that a row meets, and attention over the positions that are read.
    /// A prompt's attention to itself is left out, so that its limit is a little too high.
    pub fn flop(&self, pass: Pass) -> f64 {
        2.0 * pass.rows as f64 * self.active_parameters
            + 2.0 * pass.logits as f64 * self.head_parameters
            + pass.positions * self.position_flop
    }

    /// The longer of the times for bytes and for operations.
    pub fn limit(&self, pass: Pass, machine: &MachineLimits) -> PassLimit {
        let (bytes, flop) = (self.bytes(pass), self.flop(pass));
        let memory = bytes / machine.read_bytes_per_second;
        let compute = flop / machine.flop_per_second();
        let bound = if memory >= compute { Bound::Memory } else { Bound::Compute };
        PassLimit { bytes, flop, seconds: memory.max(compute), bound }
    }
}

impl Routed {
    /// Distinct experts expected for `rows` rows.
    fn touched(self, rows: usize) -> f64 {
        let experts = self.experts as f64;
        experts * (1.0 - (1.0 - self.chosen as f64 / experts).powf(rows as f64))
    }
}

/// Parameters of one layer's attention.
fn attention(config: &ModelConfig) -> f64 {
    let hidden = config.hidden_size;
    let parameters = match &config.attention {
        Attention::Mla(mla) => {
            let query = mla.head_count * (mla.qk_nope_head_dim + mla.qk_rope_head_dim);
            let to_query = match mla.q_lora_rank {
                Some(rank) => hidden * rank + rank * query,
                None => hidden * query,
            };
            let compress = hidden * (mla.kv_lora_rank + mla.qk_rope_head_dim);
            let expand =
                mla.kv_lora_rank * mla.head_count * (mla.qk_nope_head_dim + mla.v_head_dim);
            to_query + compress + expand + mla.head_count * mla.v_head_dim * hidden
        }
        Attention::Gqa(gqa) => 2 * hidden * gqa.head_dim * (gqa.head_count + gqa.kv_head_count),
    };
    parameters as f64
}

/// One layer's FLOP for one row and one position: scores and the weighted sum. MLA runs over the latent.
fn attention_flop(attention: &Attention) -> f64 {
    let flop = match attention {
        Attention::Mla(mla) => 2 * mla.head_count * (2 * mla.kv_lora_rank + mla.qk_rope_head_dim),
        Attention::Gqa(gqa) => 4 * gqa.head_count * gqa.head_dim,
    };
    flop as f64
}

/// Parameters behind one layer's attention that a token meets: three matrices for each network, and the gate.
fn network(config: &ModelConfig, layer: &FeedForward) -> f64 {
    let hidden = config.hidden_size;
    let parameters = match layer {
        FeedForward::Dense { intermediate_size } => 3 * hidden * intermediate_size,
        FeedForward::Moe(Moe {
            routed_expert_count,
            expert_intermediate_size,
            shared_intermediate_size,
            gate,
        }) => {
            let width =
                gate.experts_per_token * expert_intermediate_size + shared_intermediate_size;
            3 * hidden * width + hidden * routed_expert_count
        }
    };
    parameters as f64
}

#[cfg(test)]
mod tests;
