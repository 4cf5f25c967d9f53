//! The formulas, as values worked out by hand.

use super::{Bound, LoadedBytes, MachineLimits, ModelCost, Pass, Routed};
use model::config::ModelConfig;
use std::path::Path;

/// `bench/make_model.py`'s configuration.
const BENCHMARK: &str = r#"{
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 129280,
    "hidden_size": 1024, "intermediate_size": 4096, "moe_intermediate_size": 512, "num_hidden_layers": 12,
    "num_attention_heads": 16, "num_key_value_heads": 16, "n_shared_experts": 1, "n_routed_experts": 64,
    "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 768, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8,
    "first_k_dense_replace": 1, "norm_topk_prob": true, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": false,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1, "num_nextn_predict_layers": 0
}"#;

const BYTES: LoadedBytes =
    LoadedBytes { dense: 1_000_000_000, expert: 3_145_728, cache_position: 27_648, table_value: 2 };

fn benchmark() -> ModelCost {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), BENCHMARK).unwrap();
    ModelCost::new(&ModelConfig::read(folder.path()).unwrap(), BYTES)
}

fn one_row(positions: f64) -> Pass {
    Pass { rows: 1, logits: 1, positions }
}

#[test]
fn the_benchmark_model_costs_what_its_shapes_say() {
    let cost = benchmark();
    // Attention: q_a, q_b, kv_a, kv_b, o. Then the dense layer; then 8 + 1 experts and the gate of 11 layers.
    let attention = 1024 * 768 + 768 * 16 * 192 + 1024 * 576 + 512 * 16 * 256 + 2048 * 1024;
    let networks = 3 * 1024 * 4096 + 11 * (9 * 3 * 1024 * 512 + 1024 * 64);
    assert_eq!(cost.active_parameters, f64::from(12 * attention + networks));
    assert_eq!(cost.head_parameters, 132_382_720.0);
    assert_eq!(cost.dense_bytes, 1e9 - 2.0 * 132_382_720.0);
    assert_eq!(cost.position_flop, f64::from(12 * 2 * 16 * (512 + 64 + 512)));
    assert_eq!(cost.routed, [Routed { experts: 64, chosen: 8 }; 11]);
}

#[test]
fn the_embedded_model_costs_what_its_shapes_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1");
    let cost = ModelCost::new(&ModelConfig::read(&folder).unwrap(), BYTES);
    let attention = 256 * 128 + 128 * 4 * 48 + 256 * 80 + 64 * 4 * 64 + 128 * 256;
    let networks = 3 * 256 * 768 + 4 * (5 * 3 * 256 * 128 + 256 * 16);
    assert_eq!(cost.active_parameters, f64::from(5 * attention + networks));
    assert_eq!(cost.routed, [Routed { experts: 16, chosen: 4 }; 4]);
}

#[test]
fn a_pass_reads_each_expert_once() {
    let cost = benchmark();
    let experts = |rows| {
        (cost.bytes(Pass { rows, logits: 1, positions: 0.0 }) - cost.dense_bytes)
            / cost.expert_bytes
    };
    // One row: its 8. Two rows: 64 · (1 − (7/8)²) = 15. Very many: all.
    for (rows, expected) in [(0, 0.0), (1, 88.0), (2, 165.0), (10_000, 704.0)] {
        assert!((experts(rows) - expected).abs() < 1e-6, "{rows} rows: {}", experts(rows));
    }
    let behind = cost.bytes(one_row(1000.0)) - cost.bytes(one_row(0.0));
    assert!((behind - 27_648_000.0).abs() < 1.0, "{behind}");
}

#[test]
fn the_longer_time_is_the_limit() {
    let cost = benchmark();
    let machine = MachineLimits {
        read_bytes_per_second: 20e9,
        f32_flop_per_second: 100e9,
        bf16_flop_per_second: Some(400e9),
    };
    let decode = cost.limit(one_row(0.0), &machine);
    assert_eq!((decode.bound, decode.seconds), (Bound::Memory, decode.bytes / 20e9));
    let prefill = cost.limit(Pass { rows: 512, logits: 1, positions: 0.0 }, &machine);
    assert_eq!((prefill.bound, prefill.seconds), (Bound::Compute, prefill.flop / 400e9));
    let flop = 2.0 * (512.0 * cost.active_parameters + cost.head_parameters);
    assert_eq!(prefill.flop, flop);
    // Without the instruction, f32 is what is left.
    let older = MachineLimits { bf16_flop_per_second: None, ..machine };
    assert_eq!(
        cost.limit(Pass { rows: 512, logits: 1, positions: 0.0 }, &older).seconds,
        flop / 100e9
    );
}
