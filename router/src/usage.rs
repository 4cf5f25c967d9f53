//! Token counts in OpenAI's shape.

use crate::assemble::Counts;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub total_tokens: usize,
    pub prompt_tokens_details: PromptDetails,
    pub completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PromptDetails {
    pub cached_tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CompletionDetails {
    pub reasoning_tokens: usize,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        Self {
            prompt_tokens: counts.prompt,
            completion_tokens: counts.generated,
            total_tokens: counts.prompt + counts.generated,
            prompt_tokens_details: PromptDetails { cached_tokens: counts.cached },
            completion_tokens_details: CompletionDetails { reasoning_tokens: counts.reasoning },
        }
    }
}
