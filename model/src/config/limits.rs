//! Bounds on every number of a configuration: a damaged or hostile file must not overflow a product of sizes nor
//! make the layers ask for absurd memory. Each is several times what published models have.

use std::ops::RangeInclusive;

/// Published config.json files have a few kilobytes; quantised ones with module lists some hundred.
pub(super) const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// DeepSeek-R1: 61; the deepest published: about 130.
pub(super) const LAYERS: RangeInclusive<usize> = 1..=1024;
/// DeepSeek-R1: 7168.
pub(super) const HIDDEN: RangeInclusive<usize> = 1..=65_536;
/// DeepSeek-R1: 18 432 in its dense layers.
pub(super) const INTERMEDIATE: RangeInclusive<usize> = 1..=1 << 20;
/// DeepSeek-R1: 129 280.
pub(super) const VOCABULARY: RangeInclusive<usize> = 1..=1 << 22;
/// DeepSeek-R1: 163 840 tokens.
pub(super) const CONTEXT: RangeInclusive<usize> = 1..=1 << 24;
/// DeepSeek-R1: 128.
pub(super) const HEADS: RangeInclusive<usize> = 1..=1024;
/// DeepSeek-R1: 128.
pub(super) const HEAD_DIM: RangeInclusive<usize> = 1..=4096;
/// DeepSeek-R1: 1536 for queries, 512 for keys and values.
pub(super) const LORA_RANK: RangeInclusive<usize> = 1..=65_536;
/// DeepSeek-R1: 256.
pub(super) const EXPERTS: RangeInclusive<usize> = 1..=4096;
/// DeepSeek-R1: 1.
pub(super) const SHARED_EXPERTS: RangeInclusive<usize> = 0..=64;
/// DeepSeek-R1: 1.
pub(super) const MTP_LAYERS: RangeInclusive<usize> = 0..=16;
/// DeepSeek: 128 × 128.
pub(super) const FP8_BLOCK: RangeInclusive<usize> = 1..=65_536;
/// Llama 3 has three.
pub(super) const END_TOKENS_MAX: usize = 64;
/// 1e-6 everywhere, 1e-5 in Llama.
pub(super) const RMS_NORM_EPS: RangeInclusive<f64> = 1e-12..=1.0;
/// DeepSeek-V2: 16; V3: 2.5.
pub(super) const ROUTED_SCALING: RangeInclusive<f64> = 1e-6..=1e6;
/// 10 000 to some millions. Above 1, because yarn divides by its logarithm.
pub(super) const ROPE_THETA: RangeInclusive<f64> = 1.0 + 1e-6..=1e15;
/// Context extension; DeepSeek-R1: 40.
pub(super) const ROPE_FACTOR: RangeInclusive<f64> = 1.0..=1e6;
/// Rotations over the original context (yarn's beta_fast 32 and beta_slow 1, llama3's 4 and 1).
pub(super) const ROPE_ROTATIONS: RangeInclusive<f64> = 1e-6..=1e6;
/// DeepSeek-V2: 0.707; V3: 1. Zero means not given.
pub(super) const ROPE_MSCALE: RangeInclusive<f64> = 0.0..=100.0;
/// Near 1 wherever it is written.
pub(super) const ROPE_AMPLITUDE: RangeInclusive<f64> = 1e-6..=1e6;
