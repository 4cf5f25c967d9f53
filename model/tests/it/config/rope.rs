use model::config::{Attention, RopePairing};
use serde_json::{Value, json};

use super::{llama, parse, qwen, r1, with, without};

fn assert_close(found: f32, expected: f64) {
    let error = (f64::from(found) - expected).abs() / expected;
    assert!(error < 1e-7, "{found} instead of {expected}");
}

/// Ramp from pair 10 (kept) to pair 23 (divided by 40).
#[test]
fn yarn_of_deepseek_r1() {
    let rope = parse(&r1()).unwrap().rope;
    assert_eq!((rope.inverse_frequencies.len(), rope.amplitude), (32, 1.0));
    assert_eq!(rope.pairing, RopePairing::Interleaved);
    let expected = [
        (0, 1.0),
        (10, 0.056_234_132_519_034_91),
        (11, 0.039_006_926_567_143_86),
        (16, 0.0055),
        (22, 0.000_177_827_941_003_892_2),
        (23, 3.333_803_580_408_31e-5),
        (31, 3.333_803_580_408_309_7e-6),
    ];
    for (pair, frequency) in expected {
        assert_close(rope.inverse_frequencies[pair], frequency);
    }
}

/// Short waves kept up to pair 28, long ones divided by 8 from pair 35, those between blended.
#[test]
fn llama3_of_the_8b() {
    let rope = parse(&llama()).unwrap().rope;
    assert_eq!((rope.inverse_frequencies.len(), rope.amplitude), (64, 1.0));
    let expected = [
        (0, 1.0),
        (28, 0.003_211_445_994_752_591),
        (29, 0.002_166_570_763_503_359),
        (32, 0.000_524_846_160_992_954_7),
        (34, 0.000_178_507_812_767_996_8),
        (35, 9.556_212_353_964_683e-5),
        (63, 3.068_925_988_914_511e-7),
    ];
    for (pair, frequency) in expected {
        assert_close(rope.inverse_frequencies[pair], frequency);
    }
}

#[test]
fn linear_divides_all() {
    let plain = parse(&qwen()).unwrap().rope;
    let scaling = json!({"type": "linear", "factor": 4.0});
    let rope = parse(&with(qwen(), "rope_scaling", scaling)).unwrap().rope;
    for (found, plain) in rope.inverse_frequencies.iter().zip(&plain.inverse_frequencies) {
        assert_eq!(*found, plain / 4.0);
    }
}

fn amplitude(scaling: Value) -> f32 {
    parse(&with(r1(), "rope_scaling", scaling)).unwrap().rope.amplitude
}

#[test]
fn amplitude_of_yarn() {
    let scaling = |extra: Value| {
        let mut scaling =
            json!({"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096});
        scaling.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        scaling
    };
    let ln = 40f64.ln();
    assert_close(amplitude(scaling(json!({}))), 0.1 * ln + 1.0);
    assert_close(amplitude(scaling(json!({"mscale": 0.7, "mscale_all_dim": 0.0}))), 0.1 * ln + 1.0);
    let ratio = (0.07 * ln + 1.0) / (0.1 * ln + 1.0);
    assert_close(amplitude(scaling(json!({"mscale": 0.7, "mscale_all_dim": 1.0}))), ratio);
    assert_close(amplitude(scaling(json!({"attention_factor": 1.25}))), 1.25);
    let config = parse(&with(r1(), "rope_scaling", scaling(json!({"mscale": 0.7})))).unwrap();
    let Attention::Mla(mla) = config.attention else { panic!("not MLA") };
    assert_close(mla.softmax_scale, 192f64.powf(-0.5));
}

#[test]
fn factor_from_the_contexts() {
    let scaling = json!({"type": "yarn", "original_max_position_embeddings": 4096, "mscale": 1.0, "mscale_all_dim": 1.0});
    assert_eq!(parse(&with(r1(), "rope_scaling", scaling)).unwrap(), parse(&r1()).unwrap());
}

#[test]
fn newer_field_name() {
    let mut parameters = llama()["rope_scaling"].clone();
    parameters["rope_theta"] = json!(500_000.0);
    let config = with(
        without(without(llama(), "rope_scaling"), "rope_theta"),
        "rope_parameters",
        parameters,
    );
    assert_eq!(parse(&config).unwrap(), parse(&llama()).unwrap());
}

#[test]
fn no_scaling_in_any_spelling() {
    let plain = parse(&qwen()).unwrap();
    for scaling in
        [json!(null), json!({}), json!({"rope_type": "default"}), json!({"type": "default"})]
    {
        assert_eq!(parse(&with(qwen(), "rope_scaling", scaling)).unwrap(), plain);
    }
    assert_eq!(parse(&without(qwen(), "rope_theta")).unwrap(), plain);
}

#[test]
fn pairing_can_be_halves() {
    let config = parse(&with(r1(), "rope_interleave", json!(false))).unwrap();
    assert_eq!(config.rope.pairing, RopePairing::Halves);
}
