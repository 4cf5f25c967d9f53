//! What was computed once is found again, exactly, and changes no answer.

use crate::harness::{alone, config, engine, property_config, request, run, take_events};
use crate::toy::VOCAB_SIZE;
use engine::blocks::BlockAllocator;
use engine::engine::{Engine, EngineConfig, Now};
use engine::request::{EndOfSequence, Request, SequenceEvent};
use model::executor::{BlockId, CacheShape};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const OWNERS: usize = 4;
const BLOCK_TOKENS: usize = 4;
const SHAPE: CacheShape = CacheShape { block_tokens: BLOCK_TOKENS, block_count: 64 };

/// Prompt tokens that were found cached when the request ran with nothing beside it.
fn cached(engine: &mut Engine, request: &Request) -> u64 {
    let before = engine.load().cached_tokens_total;
    let id = engine.submit(request.clone()).unwrap();
    assert_eq!(run(engine)[&id], alone(request));
    engine.load().cached_tokens_total - before
}

/// Whole blocks before the last token.
fn sharable(tokens: usize, block_tokens: usize) -> usize {
    (tokens - 1) / block_tokens * block_tokens
}

/// A sequence of the allocator's test, and how many of its blocks are registered.
#[derive(Clone, Debug, Default)]
struct Owner {
    table: Vec<BlockId>,
    token_ids: Vec<u32>,
    registered: usize,
}

#[derive(Clone, Debug)]
enum Operation {
    Admit(usize, Vec<u32>),
    /// As many more blocks are computed.
    Compute(usize, usize),
    Append(usize, Vec<u32>),
    Release(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    // Two different tokens only, so that prefixes meet.
    let tokens = |range| proptest::collection::vec(0u32..2, range);
    prop_oneof![
        (0..OWNERS, tokens(1usize..14)).prop_map(|(owner, ids)| Operation::Admit(owner, ids)),
        (0..OWNERS, 1usize..4).prop_map(|(owner, count)| Operation::Compute(owner, count)),
        (0..OWNERS, tokens(1usize..4)).prop_map(|(owner, ids)| Operation::Append(owner, ids)),
        (0..OWNERS).prop_map(Operation::Release),
    ]
}

struct Model {
    blocks: BlockAllocator,
    owners: Vec<Owner>,
    /// All tokens up to the end of each registered block that has not been handed out again.
    content: BTreeMap<BlockId, Vec<u32>>,
}

impl Model {
    fn new(shape: CacheShape) -> Self {
        let blocks = BlockAllocator::new(shape);
        Self { blocks, owners: vec![Owner::default(); OWNERS], content: BTreeMap::new() }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Admit(owner, token_ids) => self.admit(owner, token_ids),
            Operation::Compute(owner, count) => self.compute(owner, count),
            Operation::Append(owner, token_ids) => {
                let Owner { table, token_ids: known, .. } = &mut self.owners[owner];
                let before = table.clone();
                let longer = [known.as_slice(), &token_ids].concat();
                if before.is_empty() || self.blocks.extend(table, longer.len()).is_err() {
                    assert_eq!(*table, before, "not wholly, so not at all");
                    return;
                }
                *known = longer;
                let new = table[before.len()..].to_vec();
                self.forget(&new);
            }
            Operation::Release(owner) => {
                self.blocks.release(&mut self.owners[owner].table);
                self.owners[owner] = Owner::default();
            }
        }
    }

    fn admit(&mut self, owner: usize, token_ids: Vec<u32>) {
        if !self.owners[owner].table.is_empty() {
            return;
        }
        let block_tokens = self.blocks.block_tokens();
        let (used, free) = (self.blocks.used_count(), self.blocks.free_count());
        let found = (1..=sharable(token_ids.len(), block_tokens) / block_tokens)
            .take_while(|count| self.holds(&token_ids[..count * block_tokens]))
            .count();
        let mut table = Vec::new();
        match self.blocks.admit(&mut table, &token_ids, token_ids.len()) {
            Err(_) => {
                assert!(table.is_empty() && self.blocks.used_count() == used);
                assert!(self.blocks.blocks_for(token_ids.len()) > free, "it would have fitted");
            }
            Ok(cached) => {
                assert_eq!(cached, found * block_tokens, "the longest prefix");
                for (index, block) in table[..found].iter().enumerate() {
                    let prefix = &token_ids[..(index + 1) * block_tokens];
                    assert_eq!(self.content[block], prefix, "another prefix");
                }
                self.forget(&table[found..]);
                self.owners[owner] = Owner { table, token_ids, registered: found };
            }
        }
    }

    fn compute(&mut self, owner: usize, count: usize) {
        let block_tokens = self.blocks.block_tokens();
        let Owner { table, token_ids, registered } = &mut self.owners[owner];
        let full = token_ids.len() / block_tokens;
        for index in *registered..full.min(*registered + count) {
            let end = (index + 1) * block_tokens;
            self.blocks.register(table, index, &token_ids[index * block_tokens..end]);
            self.content.insert(table[index], token_ids[..end].to_vec());
            *registered = index + 1;
        }
    }

    fn holds(&self, prefix: &[u32]) -> bool {
        self.content.values().any(|content| content == prefix)
    }

    fn forget(&mut self, handed_out: &[BlockId]) {
        for block in handed_out {
            self.content.remove(block);
        }
    }

    fn check(&self) {
        let mut owned: BTreeMap<BlockId, usize> = BTreeMap::new();
        for owner in &self.owners {
            let distinct: BTreeSet<_> = owner.table.iter().collect();
            assert_eq!(distinct.len(), owner.table.len(), "a block twice in one table");
            for (index, block) in owner.table.iter().enumerate() {
                *owned.entry(*block).or_default() += 1;
                let is_known = self.content.contains_key(block);
                assert_eq!(is_known, index < owner.registered, "an owned block was evicted");
            }
        }
        for (block, owners) in &owned {
            assert!(*owners == 1 || self.content.contains_key(block), "a private block is shared");
        }
        let idle = self.content.keys().filter(|block| !owned.contains_key(block)).count();
        assert_eq!(self.blocks.used_count(), owned.len());
        assert_eq!(self.blocks.idle_count(), idle);
        assert_eq!(self.blocks.free_count() + owned.len(), self.blocks.total());
        let distinct: BTreeSet<_> = self.content.values().collect();
        assert_eq!(distinct.len(), self.content.len(), "the same prefix is kept twice");
        for content in self.content.values() {
            let parent = &content[..content.len() - self.blocks.block_tokens()];
            assert!(parent.is_empty() || self.holds(parent), "a parent went before its child");
        }
    }
}

/// A prompt that begins like others do.
fn any_request() -> impl Strategy<Value = Request> {
    let tail = proptest::collection::vec(1..VOCAB_SIZE as u32, 0..6);
    (0u32..2, 1usize..20, tail, 1usize..20, any::<u64>()).prop_map(
        |(stem, stem_tokens, tail, max_tokens, seed)| {
            let stem = (0..stem_tokens as u32).map(|index| 1 + (index * 5 + stem) % 23);
            let mut request = request(&stem.chain(tail).collect::<Vec<_>>());
            request.sampling.temperature = 0.7;
            request.sampling.seed = seed % 3;
            request.stop.max_tokens = max_tokens;
            request.stop.end_of_sequence = EndOfSequence::Ignore;
            request
        },
    )
}

proptest! {
    #![proptest_config(property_config(512))]

    #[test]
    fn blocks_are_free_or_owned_or_kept(
        (block_tokens, block_count) in (1usize..4, 1usize..14),
        operations in proptest::collection::vec(operation(), 0..60),
    ) {
        let mut model = Model::new(CacheShape { block_tokens, block_count });
        for operation in operations {
            model.apply(operation);
            model.check();
        }
    }
}

proptest! {
    #![proptest_config(property_config(128))]

    #[test]
    fn cached_prefixes_change_no_answer(
        requests in proptest::collection::vec((any_request(), 0usize..30), 1..12),
        (block_tokens, spare) in (1usize..6, 0usize..40),
        (step_tokens_max, sequences_max) in (1usize..40, 1usize..6),
    ) {
        let block_count = 45usize.div_ceil(block_tokens) + spare / block_tokens;
        let bounds = EngineConfig { step_tokens_max, sequences_max, ..config() };
        let (mut engine, _) = engine(bounds, CacheShape { block_tokens, block_count });
        let (mut transcripts, mut expected) = (BTreeMap::new(), BTreeMap::new());
        for (request, advances) in &requests {
            let id = engine.submit(request.clone()).unwrap();
            expected.insert(id, alone(request));
            for _ in 0..*advances {
                engine.advance(Now::ZERO);
                take_events(&mut engine, &mut transcripts);
            }
        }
        for (id, transcript) in run(&mut engine) {
            let all = transcripts.entry(id).or_default();
            all.tokens.extend(transcript.tokens);
            all.end = all.end.take().or(transcript.end);
        }
        prop_assert_eq!(transcripts, expected);
        // The last to run alone is the last to be evicted.
        let last = &requests[0].0;
        cached(&mut engine, last);
        let found = cached(&mut engine, last);
        prop_assert_eq!(found, sharable(last.prompt_token_ids.len(), block_tokens) as u64);
        prop_assert_eq!(engine.load().kv_blocks_used, 0);
    }
}

#[test]
fn least_recently_used_goes_first_and_leaves_before_parents() {
    let mut blocks = BlockAllocator::new(CacheShape { block_tokens: 1, block_count: 4 });
    let (older, newer) = ([1, 2, 9], [3, 4, 9]);
    for token_ids in [older, newer, older] {
        let mut table = Vec::new();
        blocks.admit(&mut table, &token_ids[..2], 2).unwrap();
        for index in 0..2 {
            blocks.register(&mut table, index, &token_ids[index..=index]);
        }
        blocks.release(&mut table);
    }
    // `older` was used again, so `newer` goes first, from its end.
    let expected = [(2, 2), (2, 1), (2, 0), (1, 0), (0, 0)];
    for (taken, (older_left, newer_left)) in expected.into_iter().enumerate() {
        let mut copy = blocks.clone();
        let mut filler = Vec::new();
        copy.extend(&mut filler, taken).unwrap();
        let left = |token_ids: &[u32]| {
            let mut copy = copy.clone();
            copy.release(&mut filler.clone());
            copy.admit(&mut Vec::new(), token_ids, 3).unwrap()
        };
        assert_eq!((left(&older), left(&newer)), (older_left, newer_left), "{taken} taken");
    }
}

#[test]
fn parent_and_tokens_must_both_be_the_same() {
    let (mut engine, _) = engine(config(), SHAPE);
    assert_eq!(cached(&mut engine, &request(&[1, 2, 3, 4, 5, 6, 7, 8, 9])), 0);
    assert_eq!(cached(&mut engine, &request(&[9, 2, 3, 4, 5, 6, 7, 8, 9])), 0);
    assert_eq!(cached(&mut engine, &request(&[5, 6, 7, 8, 9])), 0);
    assert_eq!(cached(&mut engine, &request(&[1, 2, 3, 4, 5, 6, 9, 8, 9])), 4);
    assert_eq!(cached(&mut engine, &request(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 9])), 8);
    // One token is always left to compute.
    assert_eq!(cached(&mut engine, &request(&[1, 2, 3, 4, 5, 6, 7, 8])), 4);
}

#[test]
fn replay_finds_prompt_and_answer() {
    let (mut engine, batches) = engine(config(), SHAPE);
    let mut whole = request(&[1, 2, 3, 4, 5, 6]);
    whole.stop.end_of_sequence = EndOfSequence::Ignore;
    let id = engine.submit(whole.clone()).unwrap();
    let tokens = run(&mut engine)[&id].token_ids();
    let replay = Request { emitted_token_ids: tokens[..15].to_vec(), ..whole };
    let before = batches.lock().unwrap().len();
    let id = engine.submit(replay).unwrap();
    engine.advance(Now::ZERO);
    // The answer's blocks are found too and are not counted as the prompt's.
    let expected = SequenceEvent::Admitted { cached_tokens: 6 };
    assert_eq!(engine.poll_event(), Some((id, expected)));
    assert_eq!(run(&mut engine)[&id].token_ids(), tokens[15..]);
    let first = &batches.lock().unwrap()[before].segments[0];
    assert_eq!((first.position, first.token_ids.len()), (20, 1));
}

#[test]
fn running_sequences_share_blocks() {
    // Guesses take blocks too.
    let (mut engine, _) = engine(EngineConfig { draft_tokens_max: 0, ..config() }, SHAPE);
    let mut long = request(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    long.stop.end_of_sequence = EndOfSequence::Ignore;
    let first = [(); 2].map(|()| engine.submit(long.clone()).unwrap());
    engine.advance(Now::ZERO);
    assert_eq!(engine.load().kv_blocks_used, 6, "nothing is computed, so nothing is shared");
    while engine.load().generated_tokens_total == 0 {
        engine.advance(Now::ZERO);
    }
    // Both computed the same two full blocks; one of each is kept.
    assert_eq!(engine.load().kv_blocks_used, 2 + 2);
    let third = engine.submit(long.clone()).unwrap();
    engine.advance(Now::ZERO);
    let load = engine.load();
    assert_eq!((load.kv_blocks_used, load.cached_tokens_total), (2 + 3, 8));
    let transcripts = run(&mut engine);
    for id in [first[0], first[1], third] {
        assert_eq!(transcripts[&id], alone(&long));
    }
    assert_eq!(engine.load().kv_blocks_used, 0);
}

#[test]
fn pass_that_failed_or_was_dropped_leaves_nothing() {
    // The executor's context is shorter than what the engine was told.
    let told = EngineConfig { context_length: 100, ..config() };
    let (mut engine, _) = engine(told, SHAPE);
    let long = request(&[5; 80]);
    for _ in 0..2 {
        engine.submit(long.clone()).unwrap();
        run(&mut engine);
    }
    let dropped = request(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let id = engine.submit(dropped.clone()).unwrap();
    for _ in 0..3 {
        engine.advance(Now::ZERO);
    }
    engine.cancel(id);
    engine.advance(Now::ZERO);
    assert_eq!(engine.load().cached_tokens_total, 0);
    assert_eq!(cached(&mut engine, &dropped), 0);
    assert_eq!(cached(&mut engine, &dropped), 8);
}
