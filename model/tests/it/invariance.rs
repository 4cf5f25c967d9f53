//! A row's result does not depend on the batch, the chunking, the cache blocks, or where experts live: to the bit,
//! on every kernel path.

use crate::oracle::{fixture, tiny_r1};
use crate::run::{Model, bits, segment, tokens};
use model::executor::{
    ExpertAddress, ExpertCall, ExpertError, Experts, LogitsWanted, RowFormat, Segment,
};
use model::kernels::KernelPath;
use model::load::ModelLoader;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One of each: group-limited MLA with FP8 scales, MLA without query compression, GQA with biases, the real tiny one.
fn models() -> Vec<PathBuf> {
    vec![fixture("v3-fp8"), fixture("v2-lite"), fixture("qwen2"), tiny_r1()]
}

fn each(check: impl Fn(&mut Model, &str)) {
    for path in KernelPath::available() {
        for directory in models() {
            let mut model = Model::load(&directory, path, 32);
            check(&mut model, &format!("{path} {}", directory.display()));
        }
    }
}

const PROMPT_LENGTH: usize = 45;
const BLOCKS: [u32; 6] = [0, 1, 2, 3, 4, 5];

fn prompt(model: &Model) -> Vec<u32> {
    tokens(PROMPT_LENGTH, 7, model.loader.config().vocab_size)
}

/// Logits of the prompt in one piece, alone.
fn alone(model: &mut Model) -> Vec<u32> {
    let prompt = prompt(model);
    bits(&model.pass(vec![segment(&prompt, 0, &BLOCKS)]).values)
}

#[test]
fn a_prompt_alone_equals_the_prompt_in_a_mixed_batch() {
    each(|model, name| {
        let expected = alone(model);
        let (prompt, vocab_size) = (prompt(model), model.loader.config().vocab_size);
        let other = tokens(21, 3, vocab_size);
        model.pass(vec![segment(&other[..20], 0, &[20, 21, 22])]);
        // A decode token before, another prompt and one that wants no logits behind.
        let silent =
            Segment { logits: LogitsWanted::No, ..segment(&tokens(5, 4, vocab_size), 0, &[23]) };
        let logits = model.pass(vec![
            segment(&other[20..], 20, &[20, 21, 22]),
            segment(&prompt, 0, &[9, 7, 11, 2, 30, 4]),
            silent,
            segment(&tokens(13, 5, vocab_size), 0, &[24, 25]),
        ]);
        assert_eq!(logits.values.len(), 3 * vocab_size, "{name}");
        assert!(bits(&logits.values[vocab_size..2 * vocab_size]) == expected, "{name}");
    });
}

#[test]
fn every_chunking_gives_the_same_bits() {
    each(|model, name| {
        let expected = alone(model);
        let prompt = prompt(model);
        for chunk_length in [1, 2, 7, 16, 44] {
            let mut last = Vec::new();
            for (index, chunk) in prompt.chunks(chunk_length).enumerate() {
                last = model.pass(vec![segment(chunk, index * chunk_length, &BLOCKS)]).values;
            }
            assert!(bits(&last) == expected, "{name} in chunks of {chunk_length}");
        }
    });
}

#[test]
fn many_rows_side_by_side_are_each_the_same() {
    // 1 to 13 rows: every row blocking of the matrix kernels.
    each(|model, name| {
        let token = prompt(model)[0];
        let expected = bits(&model.pass(vec![segment(&[token], 0, &[0])]).values);
        for count in 2..=13 {
            let segments = (0..count).map(|block| segment(&[token], 0, &[block])).collect();
            for row in model.pass(segments).values.chunks(expected.len()) {
                assert!(bits(row) == expected, "{name} with {count} rows");
            }
        }
    });
}

/// Two stores with disjoint experts behind one face.
#[derive(Debug)]
struct TwoStores<A, B>(A, B);

impl<A: Experts, B: Experts> Experts for TwoStores<A, B> {
    fn row_format(&self) -> RowFormat {
        self.0.row_format()
    }

    fn row_length(&self) -> usize {
        self.0.row_length()
    }

    fn resident(&self) -> Vec<ExpertAddress> {
        let mut resident = self.0.resident();
        resident.extend(self.1.resident());
        resident.sort_unstable();
        resident
    }

    /// Each call alone, at the store that has the expert, with the rows in reverse and only those it needs.
    fn compute(
        &self,
        layer: u32,
        calls: &[ExpertCall],
        rows: &[u8],
    ) -> Result<Vec<u8>, ExpertError> {
        let row_bytes = self.row_format().row_bytes(self.row_length());
        let first = self.0.resident();
        let mut outputs = Vec::new();
        for call in calls {
            let own: Vec<u8> = call
                .rows
                .iter()
                .rev()
                .flat_map(|&row| rows[row as usize * row_bytes..][..row_bytes].to_vec())
                .collect();
            let own_rows = (0..call.rows.len() as u32).rev().collect();
            let own_call = [ExpertCall { expert: call.expert, rows: own_rows }];
            let address = ExpertAddress { layer, expert: call.expert };
            outputs.extend(match first.binary_search(&address) {
                Ok(_) => self.0.compute(layer, &own_call, &own)?,
                Err(_) => self.1.compute(layer, &own_call, &own)?,
            });
        }
        Ok(outputs)
    }
}

#[test]
fn experts_in_two_stores_equal_experts_in_one() {
    each(|model, name| {
        let expected = alone(model);
        let prompt = prompt(model);
        let (even, odd): (BTreeSet<_>, BTreeSet<_>) = model
            .loader
            .expert_addresses()
            .into_iter()
            .partition(|address| (address.layer + address.expert).is_multiple_of(2));
        let even = model.loader.load_experts(None, &even, &mut |_| {}).unwrap();
        let odd = model.loader.load_experts(None, &odd, &mut |_| {}).unwrap();
        let split = TwoStores(even, odd);
        assert_eq!(split.resident(), model.experts.resident(), "{name}");
        let logits = model.pass_with(vec![segment(&prompt, 0, &BLOCKS)], &split);
        assert!(bits(&logits.values) == expected, "{name}");
    });
}

#[test]
fn a_new_store_shares_what_stays_and_drops_the_rest() {
    let loader = ModelLoader::open(&tiny_r1(), KernelPath::Portable).unwrap();
    let addresses = loader.expert_addresses();
    let first = addresses[..8].iter().copied().collect();
    let second: BTreeSet<_> = addresses[6..10].iter().copied().collect();
    let store = loader.load_experts(None, &first, &mut |_| {}).unwrap();
    let mut loaded = 0;
    let store = loader.load_experts(Some(&store), &second, &mut |bytes| loaded += bytes).unwrap();
    assert_eq!(loaded, 2 * loader.expert_bytes());
    assert_eq!(store.resident(), second.into_iter().collect::<Vec<_>>());
}
