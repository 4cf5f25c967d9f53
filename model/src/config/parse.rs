//! The two JSON files → [`ModelConfig`].

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::fields::Fields;
use super::{
    Architecture, Attention, ConfigError, Head, ModelConfig, StoredFormat, deepseek, gqa, limits,
};

const CONFIG_FILE: &str = "config.json";
const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// Architecture, its name in `architectures` and in `model_type`.
const ARCHITECTURES: [(Architecture, &str, &str); 4] = [
    (Architecture::DeepseekV3, "DeepseekV3ForCausalLM", "deepseek_v3"),
    (Architecture::DeepseekV2, "DeepseekV2ForCausalLM", "deepseek_v2"),
    (Architecture::Qwen2, "Qwen2ForCausalLM", "qwen2"),
    (Architecture::Llama, "LlamaForCausalLM", "llama"),
];
const ACCEPTED_ARCHITECTURES: &str =
    "one of DeepseekV3ForCausalLM, DeepseekV2ForCausalLM, Qwen2ForCausalLM, LlamaForCausalLM";
const ACCEPTED_MODEL_TYPES: &str = "one of deepseek_v3, deepseek_v2, qwen2, llama";

impl Architecture {
    /// Its name in `architectures` of `config.json`.
    pub fn name(self) -> &'static str {
        let row = ARCHITECTURES.iter().find(|(architecture, ..)| *architecture == self);
        row.map_or("unknown", |(_, name, _)| name)
    }
}

impl ModelConfig {
    /// Reads `config.json` and, when it is there, `generation_config.json` of a checkpoint folder.
    ///
    /// # Errors
    /// [`ConfigError`] when a file cannot be read, or as [`Self::parse`] says.
    pub fn read(directory: &Path) -> Result<Self, ConfigError> {
        let path = directory.join(CONFIG_FILE);
        let config = read_bounded(&path, CONFIG_FILE)?.ok_or_else(|| ConfigError::Unreadable {
            file: path,
            source: io::ErrorKind::NotFound.into(),
        })?;
        let generation =
            read_bounded(&directory.join(GENERATION_CONFIG_FILE), GENERATION_CONFIG_FILE)?;
        Self::parse(&config, generation.as_deref())
    }

    /// Parses the contents of `config.json` and `generation_config.json`. End tokens of both count.
    ///
    /// # Errors
    /// [`ConfigError`] for bytes that are no JSON object, a field that is missing, of the wrong type or out of its
    /// bounds, and for every variant of a model that the layers would compute wrongly.
    pub fn parse(
        config_json: &[u8],
        generation_config_json: Option<&[u8]>,
    ) -> Result<Self, ConfigError> {
        let object = parse_object(config_json, CONFIG_FILE)?;
        let config = Fields::new(&object, "");
        let generation = match generation_config_json {
            Some(json) => parse_object(json, GENERATION_CONFIG_FILE)?,
            None => Map::new(),
        };
        let architecture = parse_architecture(config)?;
        let hidden_size = config.size("hidden_size", limits::HIDDEN)?;
        if config.text_if_present("hidden_act")?.unwrap_or("silu") != "silu" {
            return Err(config.unsupported("hidden_act", "silu"));
        }
        let (attention, rope, layers) = match architecture {
            Architecture::DeepseekV3 | Architecture::DeepseekV2 => {
                let (mla, rope) = deepseek::parse_mla(config)?;
                (Attention::Mla(mla), rope, deepseek::parse_layers(config, architecture)?)
            }
            Architecture::Qwen2 | Architecture::Llama => {
                let (gqa, rope) = gqa::parse_gqa(config, architecture, hidden_size)?;
                (Attention::Gqa(gqa), rope, gqa::parse_layers(config)?)
            }
        };
        let vocab_size = config.size("vocab_size", limits::VOCABULARY)?;
        let head = match config.flag_if_present("tie_word_embeddings")?.unwrap_or(false) {
            true => Head::TiedToEmbedding,
            false => Head::Own,
        };
        let mtp_layer_count =
            config.size_if_present("num_nextn_predict_layers", limits::MTP_LAYERS)?.unwrap_or(0);
        Ok(Self {
            architecture,
            vocab_size,
            hidden_size,
            rms_norm_eps: config.number("rms_norm_eps", limits::RMS_NORM_EPS)? as f32,
            context_length_max: config.size("max_position_embeddings", limits::CONTEXT)?,
            attention,
            rope,
            layers,
            head,
            end_token_ids: parse_end_tokens(
                config,
                Fields::new(&generation, "generation_config.json "),
                vocab_size,
            )?,
            stored: parse_stored(config)?,
            mtp_layer_count,
        })
    }
}

/// The file's content, `None` when there is no such file.
fn read_bounded(path: &Path, name: &'static str) -> Result<Option<Vec<u8>>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut content = Vec::new();
    // One byte more than allowed, so that a file that is too large is seen as such.
    file.take(limits::CONFIG_BYTES_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
    check_length(&content, name)?;
    Ok(Some(content))
}

fn check_length(json: &[u8], file: &'static str) -> Result<(), ConfigError> {
    if json.len() as u64 > limits::CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { file, limit: limits::CONFIG_BYTES_MAX });
    }
    Ok(())
}

fn parse_object(json: &[u8], file: &'static str) -> Result<Map<String, Value>, ConfigError> {
    check_length(json, file)?;
    match serde_json::from_slice(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ConfigError::NotObject { file }),
        Err(source) => Err(ConfigError::NotJson { file, source }),
    }
}

fn parse_architecture(config: Fields<'_>) -> Result<Architecture, ConfigError> {
    let Some(names) = config.value("architectures") else {
        return Err(
            config.missing("architectures", &format!("a list with {ACCEPTED_ARCHITECTURES}"))
        );
    };
    let [Value::String(name)] = names.as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(
            config.invalid("architectures", &format!("a list with {ACCEPTED_ARCHITECTURES}"))
        );
    };
    let Some((architecture, name, expected)) =
        ARCHITECTURES.into_iter().find(|entry| entry.1 == name)
    else {
        return Err(config.unsupported("architectures", ACCEPTED_ARCHITECTURES));
    };
    let Some(model_type) = config.text_if_present("model_type")? else {
        return Err(config.missing("model_type", &format!("{expected:?}")));
    };
    if !ARCHITECTURES.into_iter().any(|entry| entry.2 == model_type) {
        return Err(config.unsupported("model_type", ACCEPTED_MODEL_TYPES));
    }
    if model_type != expected {
        return Err(ConfigError::Mismatch {
            model_type: model_type.to_owned(),
            architecture: name,
            expected,
        });
    }
    Ok(architecture)
}

/// `eos_token_id` of both files, ascending.
fn parse_end_tokens(
    config: Fields<'_>,
    generation: Fields<'_>,
    vocab_size: usize,
) -> Result<Vec<u32>, ConfigError> {
    let mut ids = Vec::new();
    for fields in [config, generation] {
        let expected = || {
            format!(
                "a token id below vocab_size ({vocab_size}), or a list of at most {} of them",
                limits::END_TOKENS_MAX
            )
        };
        let Some(value) = fields.value("eos_token_id") else { continue };
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        if values.len() > limits::END_TOKENS_MAX {
            return Err(fields.invalid("eos_token_id", &expected()));
        }
        for value in values {
            let id = value
                .as_u64()
                .filter(|id| *id < vocab_size as u64)
                .and_then(|id| u32::try_from(id).ok());
            ids.push(id.ok_or_else(|| fields.invalid("eos_token_id", &expected()))?);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Err(config.missing("eos_token_id", "the token id that ends an answer"));
    }
    Ok(ids)
}

fn parse_stored(config: Fields<'_>) -> Result<StoredFormat, ConfigError> {
    let prefix = "quantization_config.";
    let Some(quantisation) = config.object_if_present("quantization_config", prefix)? else {
        return Ok(StoredFormat::Plain);
    };
    match quantisation.text_if_present("quant_method")? {
        Some("fp8") => {}
        Some(_) => {
            return Err(quantisation.unsupported("quant_method", "fp8, or no quantization_config"));
        }
        None => return Err(quantisation.missing("quant_method", "\"fp8\"")),
    }
    if quantisation.text_if_present("fmt")?.unwrap_or("e4m3") != "e4m3" {
        return Err(quantisation.unsupported("fmt", "e4m3"));
    }
    let Some(block) = quantisation.value("weight_block_size") else {
        return Err(
            quantisation.missing("weight_block_size", "[rows, columns], for example [128, 128]")
        );
    };
    let size = |value: &Value| {
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.filter(|size| limits::FP8_BLOCK.contains(size))
    };
    match block.as_array().map(Vec::as_slice) {
        Some([rows, columns]) => size(rows).zip(size(columns)),
        _ => None,
    }
    .map(|(rows, columns)| StoredFormat::Fp8Blocks { rows, columns })
    .ok_or_else(|| {
        let expected = format!("[rows, columns], each from 1 to {}", limits::FP8_BLOCK.end());
        quantisation.invalid("weight_block_size", &expected)
    })
}
