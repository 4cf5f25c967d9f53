use std::path::Path;

use model::checkpoint::{Header, parse_index};
use model::config::{Attention, FeedForward, ModelConfig};
use serde_json::{Value, json};

use super::memory::peak_bytes;
use super::mutation::{mutated, random_bytes, token};
use crate::checkpoint::file::{Written, encode, raw};
use crate::config::{fixture, r1};
use crate::random::Random;

/// Of each kind (random, mutated) to each parser.
const CASES: usize = 100_000;
/// What parsing may hold: a JSON tree costs some 40 bytes for each of its shortest elements.
const BYTES_HELD_PER_INPUT_BYTE: usize = 100;
/// Layers of the parsed model and the parser's own tables.
const BYTES_HELD_BESIDES: usize = 1 << 20;

/// Runs `parse` on random bytes and on mutations of `valid`; returns how many mutations it accepted.
fn attack(seed: u64, valid: &[Vec<u8>], mut parse: impl FnMut(&[u8]) -> bool) -> usize {
    let mut random = Random(seed);
    let mut held = |bytes: &[u8]| {
        let mut accepted = false;
        let peak = peak_bytes(|| accepted = parse(bytes));
        let limit = BYTES_HELD_BESIDES + BYTES_HELD_PER_INPUT_BYTE * bytes.len();
        assert!(
            peak <= limit as isize,
            "{peak} bytes held for {:?}",
            String::from_utf8_lossy(bytes)
        );
        accepted
    };
    for bytes in valid {
        assert!(held(bytes), "the valid input is refused");
    }
    for _ in 0..CASES {
        held(&random_bytes(&mut random));
    }
    let accepted = (0..CASES).filter(|case| {
        let bytes = mutated(&mut random, &valid[case % valid.len()]);
        held(&bytes)
    });
    accepted.count()
}

/// What the layers rely on in every accepted configuration.
fn assert_sound(config: &ModelConfig) {
    assert!(config.vocab_size > 0 && config.hidden_size > 0 && config.context_length_max > 0);
    assert!(!config.layers.is_empty() && config.layers.len() <= 1024);
    assert!(config.rms_norm_eps > 0.0 && config.rms_norm_eps.is_finite());
    assert!(config.end_token_ids.iter().all(|&id| (id as usize) < config.vocab_size));
    let rotated = match &config.attention {
        Attention::Mla(mla) => {
            assert!(mla.softmax_scale.is_normal() && mla.softmax_scale > 0.0);
            mla.qk_rope_head_dim
        }
        Attention::Gqa(gqa) => {
            assert_eq!(gqa.head_count % gqa.kv_head_count, 0);
            gqa.head_dim
        }
    };
    assert_eq!(config.rope.inverse_frequencies.len() * 2, rotated);
    assert!(config.rope.amplitude.is_finite() && config.rope.amplitude > 0.0);
    assert!(config.rope.inverse_frequencies.iter().all(|value| value.is_finite() && *value > 0.0));
    for layer in &config.layers {
        if let FeedForward::Moe(moe) = layer {
            assert!((1..=moe.routed_expert_count).contains(&moe.gate.experts_per_token));
            assert!(moe.gate.routed_scaling_factor.is_normal());
        }
    }
}

#[test]
fn config_json() {
    let fixtures = ["v3", "v2-lite", "qwen2", "llama3"]
        .map(|name| std::fs::read(fixture(name).join("config.json")));
    let mut valid: Vec<_> = fixtures.into_iter().map(|bytes| bytes.unwrap()).collect();
    valid.push(r1().to_string().into_bytes());
    let accepted = attack(1, &valid, |bytes| match ModelConfig::parse(bytes, None) {
        Ok(config) => {
            assert_sound(&config);
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 1000, "{error}");
            false
        }
    });
    assert!(accepted > 0 && accepted < CASES, "{accepted} accepted");
}

/// Every field of R1's configuration replaced by every kind of value: valid JSON, so that the checks behind are met.
#[test]
fn config_values() {
    let valid = r1();
    let mut paths: Vec<String> = Vec::new();
    for (name, value) in valid.as_object().unwrap() {
        paths.push(format!("/{name}"));
        paths.extend(
            value
                .as_object()
                .into_iter()
                .flat_map(|nested| nested.keys().map(move |key| format!("/{name}/{key}"))),
        );
    }
    let mut random = Random(2);
    for _ in 0..CASES {
        let mut config = valid.clone();
        for _ in 0..=random.below(3) {
            let path = &paths[random.below(paths.len())];
            let value = match random.below(3) {
                0 => json!(random.below(70_000)),
                1 => json!(f64::from_bits(random.next())),
                _ => serde_json::from_str(token(&mut random)).unwrap_or(Value::Null),
            };
            if let Some(place) = config.pointer_mut(path) {
                *place = value;
            }
        }
        if let Ok(config) = ModelConfig::parse(config.to_string().as_bytes(), None) {
            assert_sound(&config);
        }
    }
}

#[test]
fn safetensors_header() {
    let tensors = [
        Written::new("w", "F8_E4M3", &[2, 3], &[0x38; 6]),
        Written::f32("w_scale_inv", &[1, 2], &[1.0, 2.0]),
        Written::new("norm", "BF16", &[4], &[0; 8]),
    ];
    let accepted = attack(3, &[encode(&tensors)], |bytes| {
        let Ok(header) = Header::parse(Path::new("model.safetensors"), bytes) else { return false };
        for (name, place) in header.into_tensors() {
            let bits = place.shape.iter().product::<usize>() * place.dtype.bitsize();
            assert_eq!(bytes[place.bytes].len() * 8, bits, "{name}");
        }
        true
    });
    assert!(accepted > 0 && accepted < CASES, "{accepted} accepted");
}

#[test]
fn index_json() {
    let index = json!({
        "metadata": {"total_size": 12},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    });
    let accepted = attack(4, &[index.to_string().into_bytes()], |bytes| {
        let Ok(shards) = parse_index(Path::new("index.json"), bytes) else { return false };
        for shard in shards.keys() {
            assert!(!shard.contains(['/', '\\', '\0']) && shard != "..", "{shard}");
        }
        true
    });
    assert!(accepted > 0 && accepted < CASES, "{accepted} accepted");
}

/// The densest inputs of a mebibyte: their size bounds what parsing holds.
#[test]
fn large_inputs() {
    let length = (1 << 20) - 64;
    let list = |element: &str| element.repeat(length / element.len());
    let config = format!(r#"{{"layers": [{}0]}}"#, list("0,"));
    let nested = format!(r#"{{"layers": [{}[]]}}"#, list("[],"));
    let shape = format!(
        r#"{{"a": {{"dtype": "U8", "shape": [{}1], "data_offsets": [0, 1]}}}}"#,
        list("1,")
    );
    let entries = (0..length / 64)
        .map(|name| format!(r#""{name}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#));
    let tensors = raw(&format!("{{{}}}", entries.collect::<Vec<_>>().join(",")), &[]);
    let header = |bytes: &[u8]| Header::parse(Path::new("model.safetensors"), bytes).is_ok();
    let peaks = [
        peak_bytes(|| assert!(ModelConfig::parse(config.as_bytes(), None).is_err())),
        peak_bytes(|| assert!(ModelConfig::parse(nested.as_bytes(), None).is_err())),
        peak_bytes(|| assert!(!header(&raw(&shape, &[0])))),
        peak_bytes(|| assert!(header(&tensors))),
    ];
    let limit = (BYTES_HELD_PER_INPUT_BYTE << 20) as isize;
    assert!(peaks.iter().all(|peak| *peak <= limit), "{peaks:?} bytes held, {limit} allowed");
}
