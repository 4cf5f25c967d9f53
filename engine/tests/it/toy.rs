//! A small deterministic model behind the real seams. A token's logits are a hash of the whole history, read back
//! layer by layer from the paged cache, so a wrong block table, position, route or lost state changes the answer.
//! Its drafts come through a layer of their own and are right most of the time.

use crate::toy_draft::Drafter;
use engine::engine::Vocabulary;
use model::executor::{
    Batch, BlockId, CacheShape, DraftSegment, Drafting, Executor, ExecutorError, ExpertAddress,
    ExpertCall, ExpertError, Experts, Logits, Progress, Pulse, Route, RoutedRows, RowFormat,
    Segment,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

pub const LAYERS: usize = 3;
pub const EXPERTS: u32 = 6;
const EXPERTS_PER_TOKEN: usize = 2;
/// One hidden state is a u64, which travels as a row of two "f32".
const ROW_BYTES: usize = 8;
pub const VOCAB_SIZE: usize = 24;
pub const END_TOKEN: u32 = 0;
/// Token bytes: whole characters, halves of them, one broken byte.
const TOKEN_BYTES: [&[u8]; VOCAB_SIZE] = [
    b"",
    b"a",
    b"b",
    b"c",
    b"ab",
    b"bc",
    b"abc",
    b" ",
    b"\n",
    b"stop",
    b"st",
    b"op",
    b"x",
    b"\xc3",
    b"\xa9",
    b"\xf0\x9f",
    b"\x98",
    b"\x80",
    b"\xff",
    "日".as_bytes(),
    b"\xe6\x97",
    b"\xa5",
    b"da",
    b"cab",
];

pub fn mix(state: u64, value: u64) -> u64 {
    let mut mixed = (state ^ value.rotate_left(31)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Everything that an engine asked of its executor.
pub type Batches = Arc<Mutex<Vec<Batch>>>;

pub struct ToyExecutor {
    shape: CacheShape,
    context_length: usize,
    /// `[layer][block * block_tokens + offset]`
    cache: Vec<Vec<u64>>,
    pass: Option<Pass>,
    drafter: Drafter,
    batches: Batches,
}

struct Pass {
    batch: Batch,
    layer: usize,
    /// One for each token of the batch.
    hidden: Vec<u64>,
    shared: Option<Vec<u64>>,
}

impl ToyExecutor {
    pub fn new(shape: CacheShape, context_length: usize) -> Self {
        let slots = shape.block_count * shape.block_tokens;
        let cache = vec![vec![0; slots]; LAYERS];
        let drafter = Drafter::default();
        Self { shape, context_length, cache, pass: None, drafter, batches: Batches::default() }
    }

    pub fn batches(&self) -> Batches {
        Arc::clone(&self.batches)
    }

    fn slot(&self, segment: &Segment, position: usize) -> usize {
        slot(self.shape, segment, position)
    }

    /// Writes the pass's positions of the layer, then each token attends to everything up to itself.
    fn attend(&mut self, pass: &mut Pass) {
        let mut row = 0;
        for segment in &pass.batch.segments {
            for offset in 0..segment.token_ids.len() {
                let position = segment.position + offset;
                let slot = self.slot(segment, position);
                self.cache[pass.layer][slot] = mix(pass.hidden[row], position as u64);
                let attended = (0..=position)
                    .fold(0, |sum, q| mix(sum, self.cache[pass.layer][self.slot(segment, q)]));
                pass.hidden[row] = mix(attended, pass.layer as u64);
                row += 1;
            }
        }
    }

    fn pause(&mut self, mut pass: Pass) -> Progress {
        self.attend(&mut pass);
        let rows = pass.hidden.iter().flat_map(|hidden| hidden.to_le_bytes()).collect();
        let routed = RoutedRows {
            layer: pass.layer as u32,
            row_count: pass.hidden.len(),
            rows,
            routes: routes(&pass.hidden),
        };
        self.pass = Some(pass);
        Progress::Experts(routed)
    }

    fn logits(pass: &Pass) -> Logits {
        let mut values = Vec::new();
        let mut row = 0;
        for segment in &pass.batch.segments {
            row += segment.token_ids.len();
            let wanted = segment.logits.rows(segment.token_ids.len());
            values.extend(pass.hidden[row - wanted..row].iter().flat_map(|hidden| logits(*hidden)));
        }
        Logits { vocab_size: VOCAB_SIZE, values }
    }

    fn check<'a>(&self, segments: impl Iterator<Item = &'a Segment>) -> Result<(), ExecutorError> {
        for (index, segment) in segments.enumerate() {
            let end = segment.position + segment.token_ids.len();
            let needed = end.div_ceil(self.shape.block_tokens);
            let brought = segment.blocks.len();
            if needed > brought {
                return Err(ExecutorError::BlocksMissing { segment: index, needed, brought });
            }
            if end > self.context_length {
                let context_length = self.context_length;
                return Err(ExecutorError::PastContext { position: end - 1, context_length });
            }
            if let Some(&token_id) = segment.token_ids.iter().find(|id| **id >= VOCAB_SIZE as u32) {
                return Err(ExecutorError::TokenOutOfRange { token_id, vocab_size: VOCAB_SIZE });
            }
        }
        Ok(())
    }
}

impl Executor for ToyExecutor {
    fn cache_shape(&self) -> CacheShape {
        self.shape
    }

    fn begin(&mut self, batch: Batch) -> Result<Progress, ExecutorError> {
        assert!(self.pass.is_none(), "a pass is open already");
        self.batches.lock().unwrap().push(batch.clone());
        self.check(batch.segments.iter())?;
        self.drafter.forget();
        let tokens = batch.segments.iter().flat_map(|segment| &segment.token_ids);
        let hidden = tokens.map(|token| embedding(*token)).collect();
        Ok(self.pause(Pass { batch, layer: 0, hidden, shared: None }))
    }

    fn drafting(&self) -> Drafting {
        Drafting::Present
    }

    fn begin_draft(&mut self, segments: Vec<DraftSegment>) -> Result<Progress, ExecutorError> {
        assert!(self.pass.is_none(), "a pass is open already");
        self.check(segments.iter().map(|segment| &segment.next))?;
        Ok(self.drafter.begin(self.shape, &self.cache, segments))
    }

    fn overlap(&mut self) {
        if self.drafter.is_open() {
            return;
        }
        let pass = self.pass.as_mut().unwrap();
        assert!(pass.shared.is_none(), "the shared experts ran twice");
        pass.shared = Some(pass.hidden.iter().map(|hidden| mix(*hidden, 99)).collect());
    }

    fn resume(&mut self, outputs: &[&[u8]]) -> Result<Progress, ExecutorError> {
        if self.drafter.is_open() {
            return Ok(Progress::Finished(self.drafter.finish(self.shape, &self.cache, outputs)));
        }
        if self.pass.as_ref().unwrap().shared.is_none() {
            self.overlap();
        }
        let mut pass = self.pass.take().unwrap();
        let routes = routes(&pass.hidden);
        assert_eq!(routes.len(), outputs.len());
        let shared = pass.shared.take().unwrap();
        for (route, output) in routes.iter().zip(outputs) {
            let output = u64::from_le_bytes((*output).try_into().unwrap());
            let hidden = &mut pass.hidden[route.row as usize];
            *hidden = mix(*hidden, output);
        }
        for (hidden, shared) in pass.hidden.iter_mut().zip(shared) {
            *hidden = mix(*hidden, shared);
        }
        pass.layer += 1;
        if pass.layer == LAYERS {
            self.drafter.keep_states(self.shape, &self.cache, &pass.batch.segments);
            return Ok(Progress::Finished(Self::logits(&pass)));
        }
        Ok(self.pause(pass))
    }

    fn pulse(&self) -> Pulse {
        Pulse::default()
    }

    fn abandon(&mut self) {
        self.pass = None;
        self.drafter.forget();
    }
}

/// Place of a position in one layer's cache.
pub fn slot(shape: CacheShape, segment: &Segment, position: usize) -> usize {
    let BlockId(block) = segment.blocks[position / shape.block_tokens];
    block as usize * shape.block_tokens + position % shape.block_tokens
}

pub fn embedding(token_id: u32) -> u64 {
    mix(7, u64::from(token_id))
}

pub fn routes(hidden: &[u64]) -> Vec<Route> {
    let mut routes = Vec::new();
    for (row, &hidden) in hidden.iter().enumerate() {
        let first = (hidden >> 8) as u32 % EXPERTS;
        for index in 0..EXPERTS_PER_TOKEN as u32 {
            let step = 1 + (hidden >> 40) as u32 % (EXPERTS - 1);
            routes.push(Route { row: row as u32, expert: (first + index * step) % EXPERTS });
        }
    }
    routes
}

pub fn logits(hidden: u64) -> impl Iterator<Item = f32> {
    (0..VOCAB_SIZE as u64)
        .map(move |token| (mix(hidden, token) >> 40) as f32 / (1 << 24) as f32 * 8.0 - 4.0)
}

/// Some or all of the toy model's experts.
#[derive(Debug)]
pub struct ToyExperts {
    resident: BTreeSet<ExpertAddress>,
}

impl ToyExperts {
    pub fn all() -> Self {
        Self { resident: all_experts().into_iter().collect() }
    }

    pub fn some(resident: BTreeSet<ExpertAddress>) -> Self {
        Self { resident }
    }
}

pub fn all_experts() -> Vec<ExpertAddress> {
    // The drafting layer's experts come last.
    (0..=LAYERS as u32)
        .flat_map(|layer| (0..EXPERTS).map(move |expert| ExpertAddress { layer, expert }))
        .collect()
}

/// One expert's output for one row.
pub fn expert_output(layer: u32, expert: u32, row: &[u8]) -> [u8; ROW_BYTES] {
    let row = u64::from_le_bytes(row.try_into().unwrap());
    mix(mix(row, u64::from(layer)), u64::from(expert) + 1000).to_le_bytes()
}

impl Experts for ToyExperts {
    fn row_format(&self) -> RowFormat {
        RowFormat::F32
    }

    fn row_length(&self) -> usize {
        ROW_BYTES / 4
    }

    fn resident(&self) -> Vec<ExpertAddress> {
        self.resident.iter().copied().collect()
    }

    fn compute(
        &self,
        layer: u32,
        calls: &[ExpertCall],
        rows: &[u8],
    ) -> Result<Vec<u8>, ExpertError> {
        let mut outputs = Vec::new();
        for call in calls {
            if !self.resident.contains(&ExpertAddress { layer, expert: call.expert }) {
                return Err(ExpertError::NotResident { layer, expert: call.expert });
            }
            for &row in &call.rows {
                let start = row as usize * ROW_BYTES;
                outputs.extend(expert_output(layer, call.expert, &rows[start..start + ROW_BYTES]));
            }
        }
        Ok(outputs)
    }
}

#[derive(Debug)]
pub struct ToyVocabulary;

impl Vocabulary for ToyVocabulary {
    fn token_bytes(&self, token_id: u32) -> Vec<u8> {
        TOKEN_BYTES[token_id as usize].to_vec()
    }

    fn vocab_size(&self) -> usize {
        VOCAB_SIZE
    }
}
