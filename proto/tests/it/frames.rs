use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proto::exchange::{ExchangeFrame, FrameError, MAGIC};
use proto::limits::{EXCHANGE_FRAME_BYTES_MAX, EXCHANGE_HEADER_BYTES_MAX};
use proto::v1::{
    CallError, CombineHeader, DispatchHeader, ExchangeHeader, ExpertRows, HelloHeader,
    exchange_header::Body,
};
use tonic::{Code, Status};

/// Inputs of each fuzzing property.
const CASES: u32 = 100_000;

fn body() -> impl Strategy<Value = Body> {
    let rows = (any::<u32>(), prop::collection::vec(any::<u32>(), 0..20))
        .prop_map(|(expert, rows)| ExpertRows { expert, rows });
    prop_oneof![
        (any::<u32>(), any::<u32>(), prop::collection::vec(rows, 0..8), any::<u32>()).prop_map(
            |(layer, row_count, experts, deadline_ms)| {
                Body::Dispatch(DispatchHeader { layer, row_count, experts, deadline_ms })
            }
        ),
        (any::<u32>(), any::<u32>())
            .prop_map(|(layer, row_count)| Body::Combine(CombineHeader { layer, row_count })),
        (0..5i32, ".{0,40}").prop_map(|(code, message)| Body::Error(CallError { code, message })),
        (".{0,20}", ".{0,20}", any::<u64>(), 0..3i32, any::<u32>()).prop_map(
            |(deployment, agent_id, generation, row_format, row_length)| {
                Body::Hello(HelloHeader {
                    deployment,
                    agent_id,
                    generation,
                    row_format,
                    row_length,
                    fingerprint: String::new(),
                })
            }
        ),
    ]
}

fn frame() -> impl Strategy<Value = ExchangeFrame> {
    (any::<u64>(), prop::option::of(body()), prop::collection::vec(any::<u8>(), 0..200)).prop_map(
        |(call_id, body, rows)| ExchangeFrame {
            header: ExchangeHeader { call_id, body },
            rows: Bytes::from(rows),
        },
    )
}

fn encoded(frame: &ExchangeFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    assert_eq!(bytes.len(), frame.encoded_len());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_frame_comes_back_as_it_was(frame in frame()) {
        let mut bytes = BytesMut::from(encoded(&frame).as_slice());
        prop_assert_eq!(ExchangeFrame::decode(&mut bytes).unwrap(), frame);
        prop_assert!(bytes.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn random_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if bytes.len() >= 4 && bytes[..4] == MAGIC.to_le_bytes() {
            bytes[0] ^= 1;
        }
        prop_assert!(ExchangeFrame::decode(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn random_headers_are_decoded_or_refused(
        header in prop::collection::vec(any::<u8>(), 0..64),
        length in 0..70u32,
    ) {
        let mut bytes = [MAGIC.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.extend(&header);
        match ExchangeFrame::decode(&mut bytes.as_slice()) {
            Ok(frame) => prop_assert_eq!(frame.rows.len(), header.len() - length as usize),
            Err(error) => prop_assert!(!Status::from(error).message().is_empty()),
        }
    }

    #[test]
    fn a_mutated_frame_is_decoded_or_refused(
        frame in frame(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&frame);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(kept.index(bytes.len() + 1));
        if let Ok(frame) = ExchangeFrame::decode(&mut bytes.as_slice()) {
            prop_assert!(frame.rows.len() <= bytes.len());
        }
    }
}

#[test]
fn every_cut_of_a_frame_is_data_loss() {
    let header = ExchangeHeader {
        call_id: 7,
        body: Some(Body::Combine(CombineHeader { layer: 3, row_count: 1 })),
    };
    let whole = encoded(&ExchangeFrame { header, rows: Bytes::new() });
    for length in 0..whole.len() {
        let status = Status::from(ExchangeFrame::decode(&mut &whole[..length]).unwrap_err());
        assert_eq!(status.code(), Code::DataLoss, "cut at {length}: {status}");
    }
}

#[test]
fn another_version_is_an_invalid_argument() {
    let mut bytes = encoded(&ExchangeFrame::default());
    bytes[3] = b'2';
    let error = ExchangeFrame::decode(&mut bytes.as_slice()).unwrap_err();
    assert!(matches!(error, FrameError::Magic { .. }), "{error}");
    assert_eq!(Status::from(error).code(), Code::InvalidArgument);
}

#[test]
fn sizes_over_the_limits_are_refused_both_ways() {
    let header_length = (EXCHANGE_HEADER_BYTES_MAX as u32 + 1).to_le_bytes();
    let bytes = [MAGIC.to_le_bytes(), header_length].concat();
    let error = ExchangeFrame::decode(&mut bytes.as_slice()).unwrap_err();
    assert!(matches!(error, FrameError::HeaderTooLarge { .. }), "{error}");

    let rows = Bytes::from(vec![0; EXCHANGE_FRAME_BYTES_MAX - 8]);
    let largest = ExchangeFrame { header: ExchangeHeader::default(), rows };
    let bytes = encoded(&largest);
    assert_eq!(ExchangeFrame::decode(&mut Bytes::from(bytes)).unwrap(), largest);
    let rows = Bytes::from(vec![0; EXCHANGE_FRAME_BYTES_MAX - 7]);
    let too_large = ExchangeFrame { header: ExchangeHeader::default(), rows };
    let mut target = Vec::new();
    let error = too_large.encode(&mut target).unwrap_err();
    assert!(matches!(error, FrameError::FrameTooLarge { .. }), "{error}");
    assert!(target.is_empty());
    let bytes = vec![0; EXCHANGE_FRAME_BYTES_MAX + 1];
    let error = ExchangeFrame::decode(&mut Bytes::from(bytes)).unwrap_err();
    assert!(matches!(error, FrameError::FrameTooLarge { .. }), "{error}");
}

#[test]
fn rows_share_the_buffer_they_arrived_in() {
    let frame = ExchangeFrame {
        header: ExchangeHeader { call_id: 1, body: None },
        rows: Bytes::from_static(b"rows rows rows"),
    };
    let bytes = Bytes::from(encoded(&frame));
    let range = bytes.as_ptr_range();
    let decoded = ExchangeFrame::decode(&mut bytes.clone()).unwrap();
    assert!(range.contains(&decoded.rows.as_ptr()));
}
