//! The engine's settings from facts, request and memory.

use crate::world::spec;
use planner::engine::{EngineError, EngineRequest, size};
use std::num::NonZeroU32;

const MANY: u64 = 1 << 40;

fn request(context_length: u32) -> EngineRequest {
    EngineRequest { context_length: NonZeroU32::new(context_length), ..EngineRequest::default() }
}

#[test]
fn the_context_is_what_was_asked_for_or_the_models_own() {
    let facts = spec(1, 4, 1).model;
    let sized = |context| size(&facts, &request(context), MANY).expect("it suits the model");
    assert_eq!(sized(0).context_length, 4_096);
    assert_eq!(sized(100).context_length, 100);
    // 64 sequences of 100 tokens, eight bytes each.
    assert_eq!(sized(100).kv_cache_bytes, 64 * 100 * 8);
}

#[test]
fn a_longer_context_than_the_models_is_refused_with_both_numbers() {
    let facts = spec(1, 4, 1).model;
    let error = size(&facts, &request(5_000), MANY).expect_err("it is too long");
    assert_eq!(error, EngineError::ContextTooLong { asked: 5_000, longest: 4_096 });
    assert!(error.to_string().contains("5000") && error.to_string().contains("4096"));
}

#[test]
fn the_cache_takes_a_part_of_the_memory_at_most() {
    let facts = spec(1, 4, 1).model;
    let sized = size(&facts, &request(0), 1_000).expect("it suits the model");
    assert_eq!(sized.kv_cache_bytes, 250);
}

#[test]
fn drafts_are_on_unless_turned_off() {
    let facts = spec(1, 4, 1).model;
    let sized = |draft_tokens_max| {
        let request = EngineRequest { draft_tokens_max, ..EngineRequest::default() };
        size(&facts, &request, MANY).expect("it suits the model").draft_tokens_max
    };
    assert_eq!([None, Some(0), Some(1)].map(sized), [3, 0, 1]);
}
