//! The model inside the executable.

use node_agent::embedded::{EmbeddedModel, ModelFile};

/// Name of the embedded model: `embedded://tiny-r1`.
pub const NAME: &str = "tiny-r1";

macro_rules! model_file {
    ($name:literal) => {
        ModelFile {
            name: $name,
            bytes: include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../models/tiny-r1/",
                $name
            )),
        }
    };
}

/// All that serving it takes.
pub static FILES: [ModelFile; 5] = [
    model_file!("config.json"),
    model_file!("generation_config.json"),
    model_file!("tokenizer.json"),
    model_file!("tokenizer_config.json"),
    model_file!("model.safetensors"),
];

/// Every model that this executable carries.
pub static MODELS: [EmbeddedModel; 1] = [EmbeddedModel { name: NAME, files: &FILES }];
