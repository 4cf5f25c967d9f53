//! Attention of Llama and Qwen2.

use super::fields::Fields;
use super::rope::parse_rope;
use super::{Architecture, Bias, ConfigError, FeedForward, Gqa, Rope, RopePairing, limits};

/// Reads grouped-query attention and its rope.
pub(super) fn parse_gqa(
    config: Fields<'_>,
    architecture: Architecture,
    hidden_size: usize,
) -> Result<(Gqa, Rope), ConfigError> {
    refuse_unknown_variants(config)?;
    let head_count = config.size("num_attention_heads", limits::HEADS)?;
    let kv_head_count =
        config.size_if_present("num_key_value_heads", limits::HEADS)?.unwrap_or(head_count);
    if !head_count.is_multiple_of(kv_head_count) {
        let expected = format!("a divisor of num_attention_heads ({head_count})");
        return Err(config.invalid("num_key_value_heads", &expected));
    }
    let head_dim = parse_head_dim(config, hidden_size, head_count)?;
    let qkv_bias = match architecture {
        Architecture::Qwen2 => Bias::Present,
        // Here a true attention_bias puts one on the output projection too.
        _ if config.flag_if_present("attention_bias")? == Some(true) => {
            return Err(config.unsupported("attention_bias", "false with LlamaForCausalLM"));
        }
        _ => Bias::Absent,
    };
    let rope = parse_rope(config, head_dim, RopePairing::Halves)?.rope;
    let softmax_scale = (head_dim as f64).powf(-0.5) as f32;
    Ok((Gqa { head_count, kv_head_count, head_dim, qkv_bias, softmax_scale }, rope))
}

/// Reads the layers, all dense and alike.
pub(super) fn parse_layers(config: Fields<'_>) -> Result<Vec<FeedForward>, ConfigError> {
    let layer_count = config.size("num_hidden_layers", limits::LAYERS)?;
    let intermediate_size = config.size("intermediate_size", limits::INTERMEDIATE)?;
    Ok(vec![FeedForward::Dense { intermediate_size }; layer_count])
}

/// `head_dim`, or the hidden size split over the heads.
fn parse_head_dim(
    config: Fields<'_>,
    hidden_size: usize,
    head_count: usize,
) -> Result<usize, ConfigError> {
    let head_dim = match config.size_if_present("head_dim", limits::HEAD_DIM)? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(head_count) => hidden_size / head_count,
        None => {
            let expected =
                format!("a divisor of hidden_size ({hidden_size}) when head_dim is absent");
            return Err(config.invalid("num_attention_heads", &expected));
        }
    };
    if head_dim > *limits::HEAD_DIM.end() {
        let expected = format!(
            "larger: hidden_size over it is a head of {head_dim}, above {}",
            limits::HEAD_DIM.end()
        );
        return Err(config.invalid("num_attention_heads", &expected));
    }
    if head_dim.is_multiple_of(2) {
        return Ok(head_dim);
    }
    let name = if config.value("head_dim").is_some() { "head_dim" } else { "num_attention_heads" };
    Err(config.invalid(
        name,
        &format!("chosen so that the head dimension ({head_dim}) is even: rope rotates pairs"),
    ))
}

fn refuse_unknown_variants(config: Fields<'_>) -> Result<(), ConfigError> {
    for name in ["mlp_bias", "use_sliding_window", "use_mrope"] {
        if config.flag_if_present(name)? == Some(true) {
            return Err(config.unsupported(name, "false"));
        }
    }
    if let Some(types) = config.value("layer_types") {
        let full = |layer: &serde_json::Value| layer.as_str() == Some("full_attention");
        if !types.as_array().is_some_and(|layers| layers.iter().all(full)) {
            return Err(config.unsupported("layer_types", "full_attention in every layer"));
        }
    }
    match config.number_if_present("partial_rotary_factor", 0.0..=1.0)? {
        Some(1.0) | None => Ok(()),
        Some(_) => Err(config.unsupported("partial_rotary_factor", "1")),
    }
}
