//! What requests need of a loaded model.

use crate::driver::Commands;
use engine::engine::Vocabulary;
use model::template::ChatTemplate;
use model::tokenizer::Tokenizer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Made once, after the first load.
#[derive(Debug)]
pub struct Serving {
    pub deployment: String,
    pub text: ModelText,
    pub context_length: usize,
    /// Ids of a request are below this.
    pub vocab_size: usize,
    pub commands: Commands,
    tested: AtomicBool,
}

/// The model's words; sharing is cheap.
#[derive(Clone, Debug)]
pub struct ModelText {
    pub tokenizer: Arc<Tokenizer>,
    pub template: Arc<ChatTemplate>,
}

impl Serving {
    /// Not tested yet: no requests are taken.
    pub fn new(
        deployment: String,
        text: ModelText,
        context_length: usize,
        vocab_size: usize,
        commands: Commands,
    ) -> Self {
        let tested = AtomicBool::new(false);
        Self { deployment, text, context_length, vocab_size, commands, tested }
    }

    /// Whether the self-test has passed.
    pub fn is_tested(&self) -> bool {
        self.tested.load(Ordering::Acquire)
    }

    pub fn set_tested(&self) {
        self.tested.store(true, Ordering::Release);
    }
}

/// The tokeniser in the engine's words.
pub struct ModelVocabulary {
    pub tokenizer: Arc<Tokenizer>,
    pub vocab_size: usize,
}

impl Vocabulary for ModelVocabulary {
    fn token_bytes(&self, token_id: u32) -> Vec<u8> {
        self.tokenizer.token_bytes(token_id)
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}
