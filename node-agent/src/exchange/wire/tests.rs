use super::{Hello, parse_dispatch};
use bytes::Bytes;
use model::executor::{ExpertAddress, Experts, RowFormat};
use model::expert_store::ExpertStore;
use model::kernels::KernelPath;
use model::load::ModelLoader;
use proptest::prelude::*;
use proto::exchange::ExchangeFrame;
use proto::v1::exchange_header::Body;
use proto::v1::{DispatchHeader, ExchangeHeader, ExpertRows};
use std::path::Path;
use std::sync::LazyLock;

/// Mutated calls that go all the way into the experts.
const CASES: u32 = 100_000;

/// Experts 0 to 7 of layers 1 and 2 of the embedded model.
static EXPERTS: LazyLock<ExpertStore> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1");
    let loader = ModelLoader::open(&directory, KernelPath::best()).unwrap();
    let wanted = (1..3).flat_map(|layer| (0..8).map(move |expert| ExpertAddress { layer, expert }));
    loader.load_experts(None, &wanted.collect(), &mut |_| {}).unwrap()
});

fn header() -> impl Strategy<Value = DispatchHeader> {
    let experts = (0..10u32, prop::collection::vec(0..4u32, 0..4))
        .prop_map(|(expert, rows)| ExpertRows { expert, rows });
    (0..4u32, 0..4u32, prop::collection::vec(experts, 0..3), any::<u32>()).prop_map(
        |(layer, row_count, experts, deadline_ms)| DispatchHeader {
            layer,
            row_count,
            experts,
            deadline_ms,
        },
    )
}

/// What an agent does with a frame, without its threads.
fn receive(mut bytes: &[u8], experts: &ExpertStore) {
    let Ok(frame) = ExchangeFrame::decode(&mut bytes) else { return };
    let hello = Hello {
        deployment: "tiny".into(),
        agent_id: "a".into(),
        generation: 1,
        row_format: RowFormat::Bf16,
        row_length: experts.row_length(),
        fingerprint: String::new(),
    };
    let _ = hello.check(&frame);
    let Some(Body::Dispatch(header)) = frame.header.body else { return };
    let Ok(call) = parse_dispatch(frame.header.call_id, header, frame.rows, experts) else {
        return;
    };
    if let Ok(outputs) = experts.compute(call.layer, &call.calls, &call.rows) {
        let pairs: usize = call.calls.iter().map(|call| call.rows.len()).sum();
        assert_eq!(outputs.len(), pairs * experts.row_format().row_bytes(experts.row_length()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn mutated_calls_are_computed_or_refused(
        header in header(),
        call_id in any::<u64>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in 0..3usize,
    ) {
        let experts = &*EXPERTS;
        let row_bytes = experts.row_format().row_bytes(experts.row_length());
        let rows = Bytes::from(vec![0x3f; header.row_count as usize * row_bytes]);
        let body = Some(Body::Dispatch(header));
        let frame = ExchangeFrame { header: ExchangeHeader { call_id, body }, rows };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        // Most of a frame is rows; what is worth changing comes first.
        let header_bytes = bytes.len().min(64);
        for (at, value) in changes {
            bytes[at.index(header_bytes)] = value;
        }
        bytes.truncate(bytes.len() - cut / 2);
        receive(&bytes, experts);
    }
}
