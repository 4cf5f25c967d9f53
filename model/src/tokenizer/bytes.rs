//! What one vocabulary entry stands for, as bytes.
//!
//! A decoder in `tokenizer.json` works on whole sequences; only those of its steps that treat each token alone are
//! followed. The steps that drop a space at the start of a text (Strip, Metaspace's first token) are left out on
//! purpose: an answer continues a prompt, so its first space belongs to it.

use serde_json::Value;
use std::collections::BTreeMap;

/// Steps from a vocabulary entry to bytes, in order.
#[derive(Debug)]
pub(super) struct TokenDecoder {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// Every character stands for one byte (GPT-2's table).
    ByteLevel(BTreeMap<char, u8>),
    /// `<0x41>` stands for one byte.
    ByteFallback,
    /// Plain text replacement, `▁` by a space for example.
    Replace { from: String, to: String },
}

impl TokenDecoder {
    /// Takes the `decoder` entry of a `tokenizer.json`; the error names the decoder that is not supported.
    pub(super) fn from_json(decoder: &Value) -> Result<Self, String> {
        let mut steps = Vec::new();
        match decoder.get("decoders").and_then(Value::as_array) {
            Some(parts) => {
                for part in parts {
                    steps.extend(step(part)?);
                }
            }
            None => steps.extend(step(decoder)?),
        }
        Ok(Self { steps })
    }

    /// Bytes of a vocabulary entry.
    pub(super) fn decode(&self, token: &str) -> Vec<u8> {
        let mut text = token.to_owned();
        for step in &self.steps {
            match step {
                Step::Replace { from, to } => text = text.replace(from, to),
                Step::ByteFallback => {
                    if let Some(byte) = fallback_byte(&text) {
                        return vec![byte];
                    }
                }
                Step::ByteLevel(table) => {
                    let bytes: Option<Vec<u8>> =
                        text.chars().map(|character| table.get(&character).copied()).collect();
                    return bytes.unwrap_or_else(|| text.into_bytes());
                }
            }
        }
        text.into_bytes()
    }
}

fn step(decoder: &Value) -> Result<Option<Step>, String> {
    if decoder.is_null() {
        return Ok(None);
    }
    let kind = decoder.get("type").and_then(Value::as_str).unwrap_or("without a type");
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    match kind {
        "ByteLevel" => Ok(Some(Step::ByteLevel(byte_level_table()))),
        "ByteFallback" => Ok(Some(Step::ByteFallback)),
        "Fuse" | "Strip" => Ok(None),
        "Metaspace" => {
            let from = text(decoder.get("replacement")).unwrap_or_else(|| "▁".into());
            Ok(Some(Step::Replace { from, to: " ".into() }))
        }
        "Replace" => {
            let from = text(decoder.pointer("/pattern/String"))
                .filter(|from| !from.is_empty())
                .ok_or("Replace by a regular expression")?;
            Ok(Some(Step::Replace { from, to: text(decoder.get("content")).unwrap_or_default() }))
        }
        other => Err(other.into()),
    }
}

/// `<0x41>` → 0x41.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// GPT-2's table: printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and up, in order.
fn byte_level_table() -> BTreeMap<char, u8> {
    let mut table = BTreeMap::new();
    let mut moved = 0u32;
    for byte in u8::MIN..=u8::MAX {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { u32::from(byte) } else { 0x100 + moved };
        moved += u32::from(!printable);
        table.extend(char::from_u32(code).map(|character| (character, byte)));
    }
    table
}
