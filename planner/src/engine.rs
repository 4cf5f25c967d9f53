//! Facts of a model, what was asked for and memory → the engine's settings.

use crate::spec::{EngineSettings, ModelFacts};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// Tokens in one step: a few prompts of common length, so that decoding beside them does not stall for long.
const STEP_TOKENS_MAX: u32 = 512;
/// Sequences that decode at once; beyond this a processor gains no throughput.
const SEQUENCES_MAX: u32 = 64;
/// Sequences that wait in one agent; more than clients are patient for.
const QUEUE_MAX: u32 = 256;
/// The KV cache takes at most one part in this many of an agent's memory.
const KV_CACHE_SHARE: u64 = 4;
/// Patience with one copy of an expert. A dead peer is noticed at once by its closed connection; this is for one
/// that hangs or lost its power, and every stream of the others stands still for so long, once. Long enough that a
/// machine with all cores busy is rarely taken for one; if it is, another copy answers too, and the first answer counts.
const EXPERT_DEADLINE_MS: u32 = 1_000;
/// Tokens guessed ahead for a sequence in one step. The engine makes fewer where they fail or cost more than they save;
/// published engines gain little from a fourth.
const DRAFT_TOKENS_MAX: u32 = 3;

/// The kernel path that lets each agent take the best that its processor has.
pub const KERNEL_PATH_AUTO: &str = "auto";

/// What was asked for of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRequest {
    /// `None`: the model's own limit.
    pub context_length: Option<NonZeroU32>,
    pub kernel_path: String,
    /// `None`: as many as usually pay. 0: no drafts.
    pub draft_tokens_max: Option<u32>,
}

impl Default for EngineRequest {
    fn default() -> Self {
        Self {
            context_length: None,
            kernel_path: KERNEL_PATH_AUTO.to_owned(),
            draft_tokens_max: None,
        }
    }
}

/// What was asked for does not suit the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error(
        "a context of {asked} tokens was asked for and the model's longest is {longest}; ask for {longest} or fewer"
    )]
    ContextTooLong { asked: u32, longest: u32 },
}

/// Sizes the engine of agents that may use `memory_bytes` each.
///
/// # Errors
/// [`EngineError`] when the request asks for more than the model can do.
pub fn size(
    facts: &ModelFacts,
    request: &EngineRequest,
    memory_bytes: u64,
) -> Result<EngineSettings, EngineError> {
    let longest = facts.context_length_max;
    let context_length = request.context_length.map_or(longest, NonZeroU32::get);
    if context_length > longest {
        return Err(EngineError::ContextTooLong { asked: context_length, longest });
    }
    // Room for every sequence at full length, within what the weights leave reasonable.
    let full = u64::from(context_length)
        .saturating_mul(u64::from(SEQUENCES_MAX))
        .saturating_mul(facts.cache_token_bytes);
    Ok(EngineSettings {
        context_length,
        step_tokens_max: STEP_TOKENS_MAX,
        sequences_max: SEQUENCES_MAX,
        queue_max: QUEUE_MAX,
        kv_cache_bytes: full.min(memory_bytes / KV_CACHE_SHARE),
        expert_deadline_ms: EXPERT_DEADLINE_MS,
        kernel_path: request.kernel_path.clone(),
        draft_tokens_max: request.draft_tokens_max.unwrap_or(DRAFT_TOKENS_MAX),
    })
}
