use std::error::Error;

use model::config::{ConfigError, ModelConfig};
use serde_json::{Value, json};

use super::{llama, parse, qwen, r1, v2, with, without};

/// Asserts that `config` is refused with a message that holds all of `parts`.
#[track_caller]
fn refused(config: &Value, parts: &[&str]) -> ConfigError {
    let error = parse(config).unwrap_err();
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    error
}

#[test]
fn architectures() {
    let error = refused(
        &with(r1(), "architectures", json!(["MixtralForCausalLM"])),
        &["architectures", "MixtralForCausalLM", "LlamaForCausalLM"],
    );
    assert!(matches!(error, ConfigError::Unsupported { .. }));
    refused(&with(r1(), "model_type", json!("kimi_k2")), &["model_type", "kimi_k2", "deepseek_v3"]);
    let error = refused(
        &with(r1(), "model_type", json!("llama")),
        &["llama", "DeepseekV3ForCausalLM", "deepseek_v3"],
    );
    assert!(matches!(error, ConfigError::Mismatch { .. }));
    refused(&with(r1(), "architectures", json!([])), &["architectures", "[]"]);
    refused(&with(r1(), "architectures", json!("LlamaForCausalLM")), &["architectures", "list"]);
    refused(&without(r1(), "architectures"), &["architectures is missing"]);
    refused(&without(r1(), "model_type"), &["model_type is missing", "deepseek_v3"]);
}

#[test]
fn missing_fields() {
    let r1_fields = [
        "hidden_size",
        "vocab_size",
        "num_hidden_layers",
        "intermediate_size",
        "moe_intermediate_size",
        "n_routed_experts",
        "num_experts_per_tok",
        "n_group",
        "topk_group",
        "routed_scaling_factor",
        "num_attention_heads",
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "rms_norm_eps",
        "max_position_embeddings",
        "first_k_dense_replace",
        "eos_token_id",
    ];
    for field in r1_fields {
        let error = refused(&without(r1(), field), &[field, "is missing", "write"]);
        assert!(matches!(error, ConfigError::Missing { .. }));
    }
    for field in [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    ] {
        refused(&without(llama(), field), &[field, "is missing"]);
    }
}

#[test]
fn sizes_out_of_bounds() {
    let fields = [
        "hidden_size",
        "vocab_size",
        "num_hidden_layers",
        "intermediate_size",
        "moe_intermediate_size",
        "n_routed_experts",
        "num_experts_per_tok",
        "n_group",
        "topk_group",
        "num_attention_heads",
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
        "max_position_embeddings",
        "moe_layer_freq",
    ];
    for field in fields {
        for value in
            [json!(0), json!(-1), json!(1.5), json!(u64::MAX), json!("8"), json!(true), json!([8])]
        {
            let error = refused(
                &with(r1(), field, value.clone()),
                &[field, &value.to_string(), "whole number"],
            );
            assert!(matches!(error, ConfigError::Invalid { .. }));
        }
    }
    for field in ["first_k_dense_replace", "num_nextn_predict_layers", "n_shared_experts"] {
        for value in [json!(-1), json!(1 << 20)] {
            refused(&with(r1(), field, value.clone()), &[field, &value.to_string()]);
        }
    }
}

#[test]
fn numbers_out_of_bounds() {
    for field in ["rms_norm_eps", "rope_theta", "routed_scaling_factor"] {
        for value in [json!(0), json!(-1.0), json!(1e300), json!("1e-6")] {
            refused(&with(r1(), field, value.clone()), &[field, &value.to_string(), "number"]);
        }
    }
    for field in ["factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"] {
        for value in [json!(-1.0), json!(1e300)] {
            let config = with(r1(), &format!("rope_scaling/{field}"), value.clone());
            refused(&config, &["rope_scaling.", field, &value.to_string()]);
        }
    }
}

#[test]
fn sizes_that_do_not_fit_each_other() {
    refused(&with(r1(), "qk_rope_head_dim", json!(63)), &["qk_rope_head_dim", "63", "even"]);
    refused(
        &with(r1(), "n_group", json!(7)),
        &["n_group", "7", "divisor of n_routed_experts (256)"],
    );
    refused(&with(r1(), "n_group", json!(256)), &["n_group", "256", "two experts"]);
    refused(&with(r1(), "topk_group", json!(9)), &["topk_group", "9", "from 1 to 8"]);
    refused(
        &with(r1(), "num_experts_per_tok", json!(129)),
        &["num_experts_per_tok", "129", "from 1 to 128"],
    );
    refused(
        &with(v2(), "num_experts_per_tok", json!(13)),
        &["num_experts_per_tok", "13", "from 1 to 12"],
    );
    refused(&with(llama(), "num_key_value_heads", json!(7)), &["num_key_value_heads", "7", "(32)"]);
    refused(&with(llama(), "head_dim", json!(127)), &["head_dim", "127", "even"]);
    refused(
        &with(qwen(), "num_attention_heads", json!(24)),
        &["num_attention_heads", "24", "hidden_size"],
    );
    let wide = with(with(qwen(), "hidden_size", json!(65_536)), "num_attention_heads", json!(4));
    refused(&wide, &["num_attention_heads", "16384"]);
    refused(
        &with(llama(), "eos_token_id", json!(128_256)),
        &["eos_token_id", "128256", "vocab_size"],
    );
    refused(&with(llama(), "eos_token_id", json!([1, -1])), &["eos_token_id", "[1,-1]"]);
    refused(&with(llama(), "eos_token_id", json!(vec![1; 65])), &["eos_token_id", "at most 64"]);
}

#[test]
fn variants_that_are_not_run() {
    refused(&with(r1(), "hidden_act", json!("gelu")), &["hidden_act", "gelu", "silu"]);
    refused(&with(r1(), "attention_bias", json!(true)), &["attention_bias", "true"]);
    refused(&with(llama(), "attention_bias", json!(true)), &["attention_bias", "true"]);
    refused(&with(llama(), "mlp_bias", json!(true)), &["mlp_bias", "true"]);
    refused(&with(qwen(), "use_sliding_window", json!(true)), &["use_sliding_window", "true"]);
    let layers = json!(["full_attention", "sliding_attention"]);
    refused(&with(qwen(), "layer_types", layers), &["layer_types", "full_attention"]);
    refused(&with(llama(), "partial_rotary_factor", json!(0.5)), &["partial_rotary_factor", "0.5"]);
    refused(&with(r1(), "scoring_func", json!("softmax")), &["scoring_func", "softmax", "sigmoid"]);
    refused(&with(r1(), "topk_method", json!("greedy")), &["topk_method", "greedy", "noaux_tc"]);
    refused(&with(v2(), "scoring_func", json!("sigmoid")), &["scoring_func", "sigmoid", "softmax"]);
    refused(
        &with(v2(), "topk_method", json!("noaux_tc")),
        &["topk_method", "noaux_tc", "group_limited_greedy"],
    );
}

#[test]
fn rope_scaling() {
    for kind in ["dynamic", "longrope", "su"] {
        let scaling = json!({"type": kind, "factor": 2.0});
        refused(
            &with(llama(), "rope_scaling", scaling),
            &["rope_scaling.type", kind, "yarn or llama3"],
        );
        let scaling = json!({"rope_type": kind, "factor": 2.0});
        refused(&with(llama(), "rope_scaling", scaling), &["rope_scaling.rope_type", kind]);
    }
    let same = with(llama(), "rope_scaling/high_freq_factor", json!(1.0));
    refused(&same, &["rope_scaling.high_freq_factor", "above low_freq_factor"]);
    let error = refused(
        &with(llama(), "rope_scaling", json!({"rope_type": "llama3"})),
        &["rope_scaling.factor"],
    );
    assert!(matches!(error, ConfigError::Missing { .. }));
    refused(
        &with(r1(), "rope_scaling/beta_fast", json!(0.5)),
        &["rope_scaling.beta_fast", "beta_slow"],
    );
    refused(
        &with(llama(), "rope_parameters", json!({"rope_type": "default"})),
        &["rope_parameters"],
    );
    let nested = json!({"full_attention": {"rope_type": "default"}});
    refused(&with(qwen(), "rope_parameters", nested), &["rope_parameters.full_attention"]);
    refused(&with(qwen(), "rope_scaling", json!("yarn")), &["rope_scaling", "yarn", "object"]);
}

#[test]
fn quantisation() {
    let method = |name| with(r1(), "quantization_config/quant_method", json!(name));
    refused(&method("gptq"), &["quantization_config.quant_method", "gptq", "fp8"]);
    refused(&method("awq"), &["awq"]);
    refused(
        &with(r1(), "quantization_config/fmt", json!("e5m2")),
        &["quantization_config.fmt", "e5m2", "e4m3"],
    );
    refused(
        &with(r1(), "quantization_config", json!({"quant_method": "fp8"})),
        &["weight_block_size is missing"],
    );
    for block in [json!([128]), json!([0, 128]), json!([128, 1 << 20]), json!(128), json!([1.5, 2])]
    {
        let config = with(r1(), "quantization_config/weight_block_size", block.clone());
        refused(&config, &["quantization_config.weight_block_size", &block.to_string()]);
    }
    refused(&with(r1(), "quantization_config", json!({})), &["quant_method is missing"]);
}

#[test]
fn files() {
    let error = ModelConfig::parse(b"{", None).unwrap_err();
    assert!(error.to_string().contains("config.json") && error.source().is_some(), "{error}");
    assert!(matches!(
        ModelConfig::parse(b"[]", None),
        Err(ConfigError::NotObject { file: "config.json" })
    ));
    let large = vec![b' '; (1 << 20) + 1];
    assert!(matches!(
        ModelConfig::parse(&large, None),
        Err(ConfigError::TooLarge { file: "config.json", .. })
    ));
    let config = r1().to_string();
    let error = ModelConfig::parse(config.as_bytes(), Some(b"nul")).unwrap_err();
    assert!(matches!(error, ConfigError::NotJson { file: "generation_config.json", .. }));
    let error =
        ModelConfig::parse(config.as_bytes(), Some(br#"{"eos_token_id": "x"}"#)).unwrap_err();
    assert!(
        error.to_string().starts_with("generation_config.json eos_token_id is \"x\""),
        "{error}"
    );
}

#[test]
fn folders() {
    let folder = tempfile::tempdir().unwrap();
    let error = ModelConfig::read(folder.path()).unwrap_err();
    assert!(
        matches!(error, ConfigError::Unreadable { .. })
            && error.to_string().contains("config.json"),
        "{error}"
    );
    std::fs::write(folder.path().join("config.json"), r1().to_string()).unwrap();
    std::fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [1, 5]}"#)
        .unwrap();
    assert_eq!(ModelConfig::read(folder.path()).unwrap().end_token_ids, [1, 5]);
    std::fs::write(folder.path().join("config.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(matches!(ModelConfig::read(folder.path()), Err(ConfigError::TooLarge { .. })));
}
