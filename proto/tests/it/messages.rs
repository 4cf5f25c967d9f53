use proptest::prelude::*;
use prost::Message;
use proto::v1::{
    Assignment, ChatInput, ExpertPlacement, GenerateRequest, ModelSource, Peer, SamplingParameters,
    StopConditions, generate_request::Input,
};

/// Inputs of each fuzzing property.
const CASES: u32 = 100_000;

/// prost unfolds two bytes (an empty submessage) into one value of this many bytes at most, so a message of `n` bytes
/// takes less than `n / 2` times this. It is what bounds memory behind the size limits.
const VALUE_BYTES_MAX: usize = 128;

fn request() -> GenerateRequest {
    GenerateRequest {
        request_id: "r-1".into(),
        model: "tiny-r1".into(),
        input: Some(Input::Chat(ChatInput {
            messages_json: r#"[{"role":"user","content":"hi"}]"#.into(),
            ..ChatInput::default()
        })),
        emitted_token_ids: vec![1, 200, 70_000],
        sampling: Some(SamplingParameters {
            temperature: 0.7,
            logit_bias: [(5, -1.5)].into(),
            top_logprobs: Some(3),
            ..SamplingParameters::default()
        }),
        stop: Some(StopConditions {
            max_tokens: Some(9),
            stop_strings: vec!["\n\n".into()],
            ..StopConditions::default()
        }),
    }
}

fn assignment() -> Assignment {
    Assignment {
        generation: 4,
        deployment: "tiny".into(),
        agent_id: "agent-0".into(),
        model: Some(ModelSource { directory: "/models/tiny".into(), ..ModelSource::default() }),
        peers: vec![Peer { agent_id: "agent-0".into(), address: "127.0.0.1:1".into() }],
        placement: vec![ExpertPlacement { layer: 1, expert: 2, agent_ids: vec!["agent-0".into()] }],
        settings: None,
    }
}

fn mutated(
    valid: &[u8],
    changes: &[(prop::sample::Index, u8)],
    kept: prop::sample::Index,
) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for (at, value) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    bytes.truncate(kept.index(bytes.len() + 1));
    bytes
}

/// Decoding returns, and a message that it took can be written again.
fn decode_both(bytes: &[u8]) {
    if let Ok(request) = GenerateRequest::decode(bytes) {
        assert_eq!(request.encode_to_vec().len(), request.encoded_len());
        let ids = request.emitted_token_ids.len();
        assert!(ids <= bytes.len(), "{ids} ids out of {} bytes", bytes.len());
    }
    if let Ok(assignment) = Assignment::decode(bytes) {
        assert_eq!(assignment.encode_to_vec().len(), assignment.encoded_len());
        assert!(assignment.placement.len() <= bytes.len() / 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..96)) {
        decode_both(&bytes);
    }

    #[test]
    fn mutated_messages_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kept in any::<prop::sample::Index>(),
    ) {
        decode_both(&mutated(&request().encode_to_vec(), &changes, kept));
        decode_both(&mutated(&assignment().encode_to_vec(), &changes, kept));
    }
}

#[test]
fn whole_messages_come_back() {
    let bytes = request().encode_to_vec();
    assert_eq!(GenerateRequest::decode(bytes.as_slice()).unwrap(), request());
    let bytes = assignment().encode_to_vec();
    assert_eq!(Assignment::decode(bytes.as_slice()).unwrap(), assignment());
}

#[test]
fn the_largest_unfolding_is_bounded() {
    assert!(size_of::<ExpertPlacement>() <= VALUE_BYTES_MAX);
    assert!(size_of::<Peer>() <= VALUE_BYTES_MAX);
    // `placement`, field 6, with no content: the densest way to make values.
    let bytes = [0x32, 0x00].repeat(10_000);
    let assignment = Assignment::decode(bytes.as_slice()).unwrap();
    assert_eq!(assignment.placement.len(), 10_000);
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    // Unknown groups inside each other, deeper than prost's recursion limit.
    let bytes = vec![0x7b; 100_000];
    assert!(Assignment::decode(bytes.as_slice()).is_err());
}
