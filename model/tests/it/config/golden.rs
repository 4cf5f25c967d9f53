use model::config::{
    Architecture, Attention, Bias, FeedForward, Gate, GateWeights, Gqa, Head, Mla, ModelConfig,
    Moe, RopePairing, Scoring, Selection, StoredFormat,
};
use serde_json::json;

use super::{fixture, llama, package, parse, qwen, r1, v2, with, without};

fn moe(config: &ModelConfig, layer: usize) -> &Moe {
    match &config.layers[layer] {
        FeedForward::Moe(moe) => moe,
        FeedForward::Dense { .. } => panic!("layer {layer} is dense"),
    }
}

fn mla(config: &ModelConfig) -> &Mla {
    match &config.attention {
        Attention::Mla(mla) => mla,
        Attention::Gqa(_) => panic!("not MLA"),
    }
}

fn gqa(config: &ModelConfig) -> &Gqa {
    match &config.attention {
        Attention::Gqa(gqa) => gqa,
        Attention::Mla(_) => panic!("not GQA"),
    }
}

#[test]
fn deepseek_r1() {
    let config = parse(&r1()).unwrap();
    assert_eq!(config.architecture, Architecture::DeepseekV3);
    assert_eq!((config.vocab_size, config.hidden_size), (129_280, 7168));
    assert_eq!((config.context_length_max, config.rms_norm_eps), (163_840, 1e-6));
    assert_eq!((config.head, config.mtp_layer_count), (Head::Own, 1));
    assert_eq!(config.end_token_ids, [1]);
    assert_eq!(config.stored, StoredFormat::Fp8Blocks { rows: 128, columns: 128 });
    let attention = mla(&config);
    assert!((attention.softmax_scale - 0.135_233_78).abs() < 1e-8, "{}", attention.softmax_scale);
    let expected = Mla {
        head_count: 128,
        q_lora_rank: Some(1536),
        kv_lora_rank: 512,
        qk_nope_head_dim: 128,
        qk_rope_head_dim: 64,
        v_head_dim: 128,
        softmax_scale: attention.softmax_scale,
    };
    assert_eq!(*attention, expected);
    assert_eq!(config.layers.len(), 61);
    assert!(
        config.layers[..3]
            .iter()
            .all(|layer| *layer == FeedForward::Dense { intermediate_size: 18_432 })
    );
    let gate = Gate {
        experts_per_token: 8,
        scoring: Scoring::Sigmoid,
        selection: Selection::GroupLimitedByTopTwo { group_count: 8, groups_kept: 4 },
        weights: GateWeights::Normalised,
        routed_scaling_factor: 2.5,
    };
    let expected = FeedForward::Moe(Moe {
        routed_expert_count: 256,
        expert_intermediate_size: 2048,
        shared_intermediate_size: 2048,
        gate,
    });
    assert!(config.layers[3..].iter().all(|layer| *layer == expected));
}

#[test]
fn distilled_llama() {
    let config = parse(&llama()).unwrap();
    assert_eq!(config.architecture, Architecture::Llama);
    let expected = Gqa {
        head_count: 32,
        kv_head_count: 8,
        head_dim: 128,
        qkv_bias: Bias::Absent,
        softmax_scale: 0.088_388_346,
    };
    assert_eq!(*gqa(&config), expected);
    assert_eq!(config.layers, vec![FeedForward::Dense { intermediate_size: 14_336 }; 32]);
    assert_eq!((config.stored, config.mtp_layer_count), (StoredFormat::Plain, 0));
    assert_eq!((config.rms_norm_eps, config.rope.pairing), (1e-5, RopePairing::Halves));
    let tied = parse(&with(llama(), "tie_word_embeddings", json!(true))).unwrap();
    assert_eq!(tied.head, Head::TiedToEmbedding);
}

#[test]
fn distilled_qwen() {
    let config = parse(&qwen()).unwrap();
    assert_eq!(config.architecture, Architecture::Qwen2);
    let expected = Gqa {
        head_count: 28,
        kv_head_count: 4,
        head_dim: 128,
        qkv_bias: Bias::Present,
        softmax_scale: 0.088_388_346,
    };
    assert_eq!(*gqa(&config), expected);
    assert_eq!((config.rope.inverse_frequencies.len(), config.rope.amplitude), (64, 1.0));
    assert_eq!((config.layers.len(), config.vocab_size), (28, 152_064));
}

#[test]
fn heads_without_their_own_fields() {
    let config = parse(&without(without(llama(), "head_dim"), "num_key_value_heads")).unwrap();
    assert_eq!((gqa(&config).head_dim, gqa(&config).kv_head_count), (128, 32));
}

#[test]
fn fixtures() {
    let config = ModelConfig::read(&fixture("v3")).unwrap();
    assert_eq!(mla(&config).softmax_scale, 48f32.powf(-0.5));
    assert_eq!((mla(&config).q_lora_rank, config.stored), (Some(48), StoredFormat::Plain));
    assert_eq!(config.rope.pairing, RopePairing::Interleaved);
    assert_eq!(config.layers[0], FeedForward::Dense { intermediate_size: 352 });
    assert_eq!(moe(&config, 1).gate.experts_per_token, 4);

    let config = ModelConfig::read(&fixture("v3-yarn")).unwrap();
    let mscale = 0.1 * 40f64.ln() + 1.0;
    assert!(
        (f64::from(mla(&config).softmax_scale) - 48f64.powf(-0.5) * mscale * mscale).abs() < 1e-8
    );
    assert_eq!(config.rope.amplitude, 1.0);

    let config = ModelConfig::read(&fixture("v3-fp8")).unwrap();
    assert_eq!(config.stored, StoredFormat::Fp8Blocks { rows: 128, columns: 128 });
    assert_eq!(moe(&config, 3).expert_intermediate_size, 160);

    let config = ModelConfig::read(&fixture("v3-onegroup")).unwrap();
    let gate = &moe(&config, 1).gate;
    assert_eq!(gate.selection, Selection::GroupLimitedByTopTwo { group_count: 1, groups_kept: 1 });
    assert_eq!((gate.weights, gate.routed_scaling_factor), (GateWeights::AsScored, 2.5));
    assert_eq!(moe(&config, 1).shared_intermediate_size, 192);

    let config = ModelConfig::read(&fixture("v2-lite")).unwrap();
    let gate = &moe(&config, 1).gate;
    assert_eq!((config.architecture, mla(&config).q_lora_rank), (Architecture::DeepseekV2, None));
    assert_eq!((gate.scoring, gate.selection), (Scoring::Softmax, Selection::Greedy));
    assert_eq!((gate.weights, gate.routed_scaling_factor), (GateWeights::AsScored, 1.0));

    let config = ModelConfig::read(&fixture("qwen2")).unwrap();
    assert_eq!((gqa(&config).head_dim, gqa(&config).qkv_bias), (16, Bias::Present));
    let config = ModelConfig::read(&fixture("llama3")).unwrap();
    assert_eq!((gqa(&config).kv_head_count, config.context_length_max), (2, 131_072));
}

#[test]
fn embedded_model() {
    let config = ModelConfig::read(&package().join("../models/tiny-r1")).unwrap();
    assert_eq!((config.layers.len(), config.mtp_layer_count), (5, 1));
    assert_eq!((config.context_length_max, moe(&config, 4).routed_expert_count), (512, 16));
}

#[test]
fn v2_group_limited_gate() {
    let config =
        with(with(v2(), "topk_method", json!("group_limited_greedy")), "n_group", json!(4));
    let config =
        parse(&with(with(config, "topk_group", json!(2)), "routed_scaling_factor", json!(16)))
            .unwrap();
    let gate = &moe(&config, 1).gate;
    assert_eq!(gate.selection, Selection::GroupLimitedByMax { group_count: 4, groups_kept: 2 });
    assert_eq!((gate.weights, gate.routed_scaling_factor), (GateWeights::AsScored, 16.0));
}

#[test]
fn v2_normalises_instead_of_scaling() {
    let config =
        with(with(v2(), "norm_topk_prob", json!(true)), "routed_scaling_factor", json!(16));
    let several = parse(&config).unwrap();
    let gate = &moe(&several, 1).gate;
    assert_eq!((gate.weights, gate.routed_scaling_factor), (GateWeights::Normalised, 1.0));
    let single = parse(&with(config, "num_experts_per_tok", json!(1))).unwrap();
    let gate = &moe(&single, 1).gate;
    assert_eq!((gate.weights, gate.routed_scaling_factor), (GateWeights::AsScored, 16.0));
}

#[test]
fn moe_layer_frequency() {
    let config = parse(&with(r1(), "moe_layer_freq", json!(2))).unwrap();
    let moe_layers: Vec<_> =
        (0..10).filter(|&i| matches!(config.layers[i], FeedForward::Moe(_))).collect();
    assert_eq!(moe_layers, [4, 6, 8]);
    let dense = parse(&with(v2(), "n_routed_experts", json!(null))).unwrap();
    assert!(dense.layers.iter().all(|layer| matches!(layer, FeedForward::Dense { .. })));
}

#[test]
fn end_tokens_of_both_files() {
    let config = with(llama(), "eos_token_id", json!([128_009, 128_001]));
    let generation = br#"{"eos_token_id": [128008, 128001]}"#;
    let parsed = ModelConfig::parse(config.to_string().as_bytes(), Some(generation)).unwrap();
    assert_eq!(parsed.end_token_ids, [128_001, 128_008, 128_009]);
    let config = with(llama(), "eos_token_id", json!(null));
    let parsed =
        ModelConfig::parse(config.to_string().as_bytes(), Some(br#"{"eos_token_id": 7}"#)).unwrap();
    assert_eq!(parsed.end_token_ids, [7]);
}
