//! Attention and layers of DeepSeek-V2 and V3.

use super::fields::Fields;
use super::rope::parse_rope;
use super::{
    Architecture, ConfigError, FeedForward, Gate, GateWeights, Mla, Moe, Rope, RopePairing,
    Scoring, Selection, limits,
};

/// Reads multi-head latent attention and its rope.
pub(super) fn parse_mla(config: Fields<'_>) -> Result<(Mla, Rope), ConfigError> {
    if config.flag_if_present("attention_bias")? == Some(true) {
        return Err(config.unsupported("attention_bias", "false"));
    }
    if !config.is_written("q_lora_rank") {
        return Err(config
            .missing("q_lora_rank", "the rank of compressed queries, or null when they are not"));
    }
    let rope_dim = config.size("qk_rope_head_dim", limits::HEAD_DIM)?;
    if !rope_dim.is_multiple_of(2) {
        return Err(config.invalid("qk_rope_head_dim", "even: rope rotates pairs"));
    }
    let pairing = match config.flag_if_present("rope_interleave")? {
        Some(false) => RopePairing::Halves,
        Some(true) | None => RopePairing::Interleaved,
    };
    let scaled = parse_rope(config, rope_dim, pairing)?;
    let nope_dim = config.size("qk_nope_head_dim", limits::HEAD_DIM)?;
    let mla = Mla {
        head_count: config.size("num_attention_heads", limits::HEADS)?,
        q_lora_rank: config.size_if_present("q_lora_rank", limits::LORA_RANK)?,
        kv_lora_rank: config.size("kv_lora_rank", limits::LORA_RANK)?,
        qk_nope_head_dim: nope_dim,
        qk_rope_head_dim: rope_dim,
        v_head_dim: config.size("v_head_dim", limits::HEAD_DIM)?,
        softmax_scale: (((nope_dim + rope_dim) as f64).powf(-0.5) * scaled.mla_softmax_factor)
            as f32,
    };
    Ok((mla, scaled.rope))
}

/// Reads the layers: dense up to `first_k_dense_replace`, then MoE at every `moe_layer_freq`-th index.
pub(super) fn parse_layers(
    config: Fields<'_>,
    architecture: Architecture,
) -> Result<Vec<FeedForward>, ConfigError> {
    let layer_count = config.size("num_hidden_layers", limits::LAYERS)?;
    let dense = FeedForward::Dense {
        intermediate_size: config.size("intermediate_size", limits::INTERMEDIATE)?,
    };
    if config.is_written("n_routed_experts") && config.value("n_routed_experts").is_none() {
        return Ok(vec![dense; layer_count]);
    }
    let dense_count = config.size("first_k_dense_replace", 0..=*limits::LAYERS.end())?;
    let frequency = config.size_if_present("moe_layer_freq", limits::LAYERS)?.unwrap_or(1);
    let moe = FeedForward::Moe(parse_moe(config, architecture)?);
    let layer = |index: usize| match index >= dense_count && index.is_multiple_of(frequency) {
        true => moe.clone(),
        false => dense.clone(),
    };
    Ok((0..layer_count).map(layer).collect())
}

fn parse_moe(config: Fields<'_>, architecture: Architecture) -> Result<Moe, ConfigError> {
    let routed_expert_count = config.size("n_routed_experts", limits::EXPERTS)?;
    let expert_intermediate_size = config.size("moe_intermediate_size", limits::INTERMEDIATE)?;
    let shared_count =
        config.size_if_present("n_shared_experts", limits::SHARED_EXPERTS)?.unwrap_or(0);
    let gate = match architecture {
        Architecture::DeepseekV2 => parse_v2_gate(config, routed_expert_count)?,
        _ => parse_v3_gate(config, routed_expert_count)?,
    };
    let shared_intermediate_size = shared_count * expert_intermediate_size;
    Ok(Moe { routed_expert_count, expert_intermediate_size, shared_intermediate_size, gate })
}

fn parse_v3_gate(config: Fields<'_>, expert_count: usize) -> Result<Gate, ConfigError> {
    if config.text_if_present("scoring_func")?.unwrap_or("sigmoid") != "sigmoid" {
        return Err(config.unsupported("scoring_func", "sigmoid with DeepseekV3ForCausalLM"));
    }
    if config.text_if_present("topk_method")?.unwrap_or("noaux_tc") != "noaux_tc" {
        return Err(config.unsupported("topk_method", "noaux_tc with DeepseekV3ForCausalLM"));
    }
    let groups = parse_groups(config, expert_count)?;
    if expert_count / groups.count < 2 {
        return Err(config.invalid(
            "n_group",
            "at most half of n_routed_experts: groups are ranked by two experts",
        ));
    }
    let weights = match config.flag_if_present("norm_topk_prob")?.unwrap_or(true) {
        true => GateWeights::Normalised,
        false => GateWeights::AsScored,
    };
    Ok(Gate {
        experts_per_token: parse_experts_per_token(
            config,
            expert_count / groups.count * groups.kept,
        )?,
        scoring: Scoring::Sigmoid,
        selection: Selection::GroupLimitedByTopTwo {
            group_count: groups.count,
            groups_kept: groups.kept,
        },
        weights,
        routed_scaling_factor: config.number("routed_scaling_factor", limits::ROUTED_SCALING)?
            as f32,
    })
}

fn parse_v2_gate(config: Fields<'_>, expert_count: usize) -> Result<Gate, ConfigError> {
    if config.text_if_present("scoring_func")?.unwrap_or("softmax") != "softmax" {
        return Err(config.unsupported("scoring_func", "softmax with DeepseekV2ForCausalLM"));
    }
    let (selection, candidates) = match config.text_if_present("topk_method")?.unwrap_or("greedy") {
        "greedy" => (Selection::Greedy, expert_count),
        "group_limited_greedy" => {
            let groups = parse_groups(config, expert_count)?;
            let selection = Selection::GroupLimitedByMax {
                group_count: groups.count,
                groups_kept: groups.kept,
            };
            (selection, expert_count / groups.count * groups.kept)
        }
        _ => {
            return Err(config.unsupported(
                "topk_method",
                "greedy or group_limited_greedy with DeepseekV2ForCausalLM",
            ));
        }
    };
    let experts_per_token = parse_experts_per_token(config, candidates)?;
    let factor = config.number("routed_scaling_factor", limits::ROUTED_SCALING)? as f32;
    // DeepSeek's own V2 code either normalises or scales, never both, and one weight alone is not normalised.
    let normalised =
        config.flag_if_present("norm_topk_prob")?.unwrap_or(false) && experts_per_token > 1;
    let (weights, routed_scaling_factor) =
        if normalised { (GateWeights::Normalised, 1.0) } else { (GateWeights::AsScored, factor) };
    Ok(Gate {
        experts_per_token,
        scoring: Scoring::Softmax,
        selection,
        weights,
        routed_scaling_factor,
    })
}

struct Groups {
    count: usize,
    kept: usize,
}

fn parse_groups(config: Fields<'_>, expert_count: usize) -> Result<Groups, ConfigError> {
    let count = config.size("n_group", limits::EXPERTS)?;
    if !expert_count.is_multiple_of(count) {
        return Err(
            config.invalid("n_group", &format!("a divisor of n_routed_experts ({expert_count})"))
        );
    }
    let kept = config.size("topk_group", 1..=count)?;
    Ok(Groups { count, kept })
}

fn parse_experts_per_token(config: Fields<'_>, candidates: usize) -> Result<usize, ConfigError> {
    config.size("num_experts_per_tok", 1..=candidates)
}
