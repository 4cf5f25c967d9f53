//! `config.json` → `ModelConfig`: known models, and what is refused.

mod golden;
mod refused;
mod rope;

use std::path::{Path, PathBuf};

use model::config::{ConfigError, ModelConfig};
use serde_json::Value;

/// DeepSeek-R1's published configuration.
pub(crate) fn r1() -> Value {
    read_json("tests/configs/deepseek-r1.json")
}

/// The configuration of DeepSeek-R1-Distill-Llama-8B.
fn llama() -> Value {
    read_json("tests/configs/r1-distill-llama-8b.json")
}

/// The configuration of DeepSeek-R1-Distill-Qwen-7B.
fn qwen() -> Value {
    read_json("tests/configs/r1-distill-qwen-7b.json")
}

/// A small DeepSeek-V2 with a greedy gate.
fn v2() -> Value {
    read_json("tests/fixtures/v2-lite/config.json")
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    package().join("tests/fixtures").join(name)
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(package().join(path)).unwrap()).unwrap()
}

fn parse(config: &Value) -> Result<ModelConfig, ConfigError> {
    ModelConfig::parse(config.to_string().as_bytes(), None)
}

/// `config` with field `path` (segments divided by `/`) set to `value`.
fn with(mut config: Value, path: &str, value: Value) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let pointer = if parent.is_empty() { String::new() } else { format!("/{parent}") };
    config.pointer_mut(&pointer).unwrap()[name] = value;
    config
}

/// `config` without field `name`.
fn without(mut config: Value, name: &str) -> Value {
    config.as_object_mut().unwrap().remove(name).unwrap();
    config
}
