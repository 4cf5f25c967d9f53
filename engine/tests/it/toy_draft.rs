//! The toy model's drafting layer: computes ahead what the model will say, and is wrong one time in four.

use crate::toy::{LAYERS, VOCAB_SIZE, embedding, expert_output, logits, mix, routes, slot};
use model::executor::{CacheShape, DraftSegment, Logits, Progress, RoutedRows, Segment};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Drafter {
    open: Option<Vec<DraftSegment>>,
    hidden: Vec<u64>,
    /// Where each state that the last pass left stands: what its sequence's first position cached, its position.
    states: Vec<(u64, usize)>,
    /// What the model's layers will have cached, by (layer, slot), of positions that are only guessed.
    ahead: BTreeMap<(usize, usize), u64>,
}

impl Drafter {
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A pass of the model ended.
    pub fn keep_states(&mut self, shape: CacheShape, cache: &[Vec<u64>], segments: &[Segment]) {
        self.states = segments
            .iter()
            .flat_map(|segment| {
                let end = segment.position + segment.token_ids.len();
                (segment.position..end)
                    .map(move |position| (first(shape, cache, segment), position))
            })
            .collect();
    }

    pub fn begin(
        &mut self,
        shape: CacheShape,
        cache: &[Vec<u64>],
        segments: Vec<DraftSegment>,
    ) -> Progress {
        assert!(!segments.is_empty() && self.open.is_none());
        self.hidden.clear();
        for segment in &segments {
            for (offset, token_id) in segment.next.token_ids.iter().enumerate() {
                // Every row goes on from its own sequence's state of its own position.
                let state = (first(shape, cache, &segment.next), segment.next.position + offset);
                assert_eq!(self.states[segment.state_row + offset], state);
                self.hidden.push(mix(embedding(*token_id), state.1 as u64));
            }
        }
        let rows = self.hidden.iter().flat_map(|hidden| hidden.to_le_bytes()).collect();
        let routes = routes(&self.hidden);
        self.open = Some(segments);
        Progress::Experts(RoutedRows {
            layer: LAYERS as u32,
            row_count: self.hidden.len(),
            rows,
            routes,
        })
    }

    pub fn finish(&mut self, shape: CacheShape, cache: &[Vec<u64>], outputs: &[&[u8]]) -> Logits {
        for (route, output) in routes(&self.hidden).iter().zip(outputs) {
            let row = self.hidden[route.row as usize].to_le_bytes();
            assert_eq!(*output, expert_output(LAYERS as u32, route.expert, &row));
        }
        let mut values = Vec::new();
        self.states.clear();
        for DraftSegment { next, .. } in self.open.take().unwrap() {
            if next.logits.rows(next.token_ids.len()) == 0 {
                continue;
            }
            // It stands for the model's own state one position on.
            let position = next.position + next.token_ids.len();
            self.states.push((first(shape, cache, &next), position));
            let hidden = self.ahead(shape, cache, &next);
            let skew = usize::from(mix(hidden, 555).is_multiple_of(4));
            let row: Vec<f32> = logits(hidden).collect();
            values.extend((0..VOCAB_SIZE).map(|token| row[(token + skew) % VOCAB_SIZE]));
        }
        Logits { vocab_size: VOCAB_SIZE, values }
    }

    /// The model's last hidden state for the last token of the segment, which is one position on.
    fn ahead(&mut self, shape: CacheShape, cache: &[Vec<u64>], next: &Segment) -> u64 {
        let position = next.position + next.token_ids.len();
        let mut hidden = embedding(*next.token_ids.last().unwrap());
        // The guess may be at a position that no block covers any more.
        if position >= next.blocks.len() * shape.block_tokens {
            return hidden;
        }
        for (layer, cache) in cache.iter().enumerate() {
            let own = (layer, slot(shape, next, position));
            self.ahead.insert(own, mix(hidden, position as u64));
            let attended = (0..=position).fold(0, |sum, q| {
                let slot = slot(shape, next, q);
                mix(sum, *self.ahead.get(&(layer, slot)).unwrap_or(&cache[slot]))
            });
            let paused = mix(attended, layer as u64);
            hidden = paused;
            for route in routes(&[paused]) {
                let output = expert_output(layer as u32, route.expert, &paused.to_le_bytes());
                hidden = mix(hidden, u64::from_le_bytes(output));
            }
            hidden = mix(hidden, mix(paused, 99));
        }
        hidden
    }
}

/// What a sequence's first position cached: blocks may be exchanged for others with the same content.
fn first(shape: CacheShape, cache: &[Vec<u64>], segment: &Segment) -> u64 {
    cache[0][slot(shape, segment, 0)]
}
