//! `tokenizer.json` → token ids and back to bytes.

use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};

mod bytes;

/// A larger file is no tokeniser; the largest published ones have 35 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Ids above this are refused, because a table has one row for each id; the largest vocabularies have 262 144.
const VOCABULARY_MAX: u32 = 1 << 22;

/// Text ↔ token ids of one model. Calls are independent; share it freely.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// By token id: the bytes it stands for, none for special tokens and unused ids.
    token_bytes: Vec<Box<[u8]>>,
    /// Ascending.
    special_ids: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in a checkpoint folder.
    ///
    /// # Errors
    /// [`TokenizerError`] when the file is missing, malformed, or decodes tokens in a way that has no bytes for a
    /// single token.
    pub fn open(directory: &Path) -> Result<Self, TokenizerError> {
        let path = directory.join("tokenizer.json");
        let read = |source| TokenizerError::Read { path: path.clone(), source };
        let size = std::fs::metadata(&path).map_err(read)?.len();
        if size > FILE_BYTES_MAX {
            return Err(TokenizerError::TooLarge { path, size, max: FILE_BYTES_MAX });
        }
        let content = std::fs::read(&path).map_err(read)?;
        Self::from_json(&content, &path)
    }

    /// Takes the content of a `tokenizer.json`; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn from_json(content: &[u8], path: &Path) -> Result<Self, TokenizerError> {
        let malformed = |reason: String| TokenizerError::Malformed { path: path.into(), reason };
        let file: DecoderEntry =
            serde_json::from_slice(content).map_err(|error| malformed(error.to_string()))?;
        // The library panics on some files that are JSON but no tokeniser.
        let mut inner = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(content))
            .map_err(|_| malformed("its parts do not fit together".into()))?
            .map_err(|error| malformed(error.to_string()))?;
        // Cutting and filling up are training matters: a prompt is taken whole or refused.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
        let decoder = bytes::TokenDecoder::from_json(&file.decoder)
            .map_err(|decoder| TokenizerError::Decoder { path: path.into(), decoder })?;
        let (token_bytes, special_ids) = tabulate(&inner, &decoder, path)?;
        Ok(Self { inner, token_bytes, special_ids })
    }

    /// Token ids of `text`. Adds no special tokens; the text of one (as a chat template prints it) becomes its id.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the model has no token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Self::ids(self.inner.encode_fast(text, false))
    }

    /// Token ids of a prompt that no chat template made: with the special tokens that the tokeniser's own
    /// post-processor puts around it (a beginning-of-sequence token in Llama's, none in R1's).
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] as for [`Self::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Self::ids(self.inner.encode_fast(text, true))
    }

    fn ids(encoded: tokenizers::Result<tokenizers::Encoding>) -> Result<Vec<u32>, TokenizerError> {
        let encoding =
            encoded.map_err(|error| TokenizerError::Encode { reason: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The bytes of one token, which need not be whole characters. Special and unknown ids have none.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.token_bytes.get(id as usize).map_or_else(Vec::new, |bytes| bytes.to_vec())
    }

    /// One more than the highest token id. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.token_bytes.len()
    }

    /// Id of a token by its text in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token marks structure (begin, end, user, …) and has no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("special_ids", &self.special_ids)
            .finish_non_exhaustive()
    }
}

/// The part of a `tokenizer.json` that is read here and not by the tokenizers library.
#[derive(serde::Deserialize)]
struct DecoderEntry {
    #[serde(default)]
    decoder: Value,
}

type Table = (Vec<Box<[u8]>>, Vec<u32>);

fn tabulate(
    inner: &tokenizers::Tokenizer,
    decoder: &bytes::TokenDecoder,
    path: &Path,
) -> Result<Table, TokenizerError> {
    let vocabulary = inner.get_vocab(true);
    let added = inner.get_added_tokens_decoder();
    let highest = vocabulary.values().chain(added.keys()).copied().max();
    let Some(highest) = highest else {
        return Err(TokenizerError::Malformed {
            path: path.into(),
            reason: "the vocabulary is empty".into(),
        });
    };
    if highest >= VOCABULARY_MAX {
        return Err(TokenizerError::IdTooLarge {
            path: path.into(),
            id: highest,
            max: VOCABULARY_MAX,
        });
    }
    let mut table: Vec<Box<[u8]>> = vec![Box::default(); highest as usize + 1];
    for (token, id) in &vocabulary {
        if let Some(row) = table.get_mut(*id as usize) {
            *row = decoder.decode(token).into();
        }
    }
    let mut special_ids = Vec::new();
    for (id, token) in &added {
        // Added tokens stand in the file as they read, whatever the decoder does to the others.
        let content = if token.special { "" } else { &token.content };
        if let Some(row) = table.get_mut(*id as usize) {
            *row = content.as_bytes().into();
        }
        if token.special {
            special_ids.push(*id);
        }
    }
    special_ids.sort_unstable();
    Ok((table, special_ids))
}

/// A tokeniser that cannot be used, or a text that it cannot take.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("cannot read {}; a checkpoint folder needs its tokenizer.json", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} has {size} bytes, more than the {max} a tokeniser may have", path.display())]
    TooLarge { path: PathBuf, size: u64, max: u64 },
    #[error("{} is no tokeniser: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{}: token id {id} is above {max}", path.display())]
    IdTooLarge { path: PathBuf, id: u32, max: u32 },
    #[error(
        "{}: decoder {decoder} is not supported; ByteLevel, ByteFallback, Metaspace and Replace are",
        path.display()
    )]
    Decoder { path: PathBuf, decoder: String },
    #[error("the text cannot be tokenised: {reason}")]
    Encode { reason: String },
}
