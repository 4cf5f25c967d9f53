//! The forward pass: runs layers until a gate needs routed experts, and goes on when their outputs are there.

use crate::backend::{Backend, LayoutRow, Routing, RowLayout};
use crate::config::{Rope, RopePairing};
use crate::executor::{
    Batch, CacheShape, DraftSegment, Drafting, Executor, ExecutorError, Logits, Progress, Pulse,
    Route, RoutedRows, RowFormat, Segment,
};
use crate::layers::attention::Pass;
use crate::layers::{DenseModel, DraftLayer, FeedForwardLayer, Layer};
use std::sync::Arc;

/// Facts that a pass needs besides the weights.
#[derive(Clone, Debug)]
pub struct RunnerShape {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub rms_norm_eps: f32,
    pub rope: Rope,
    pub cache: CacheShape,
    /// Longest sequence in tokens.
    pub context_length: usize,
}

/// An [`Executor`] over any backend.
#[derive(Debug)]
pub struct Runner<B: Backend> {
    backend: Arc<B>,
    model: DenseModel<B>,
    /// One for each layer, the drafting one last.
    caches: Vec<B::Cache>,
    shape: RunnerShape,
    pass: Option<OpenPass<B>>,
    states: Option<States<B::Tensor>>,
    pulse: Pulse,
}

/// What the last pass left for the drafting layer to start from.
#[derive(Debug)]
struct States<T> {
    /// Final hidden states after the head's norm: `[rows, hidden]`.
    normed: T,
    row_count: usize,
}

/// A pass between `begin` and its end.
#[derive(Debug)]
struct OpenPass<B: Backend> {
    rows: B::Rows,
    row_count: usize,
    stack: Stack,
    /// Rows whose logits are wanted, in segment order.
    wanted: Vec<u32>,
    /// `[rows, hidden]`
    hidden: B::Tensor,
    paused: Option<Pause<B>>,
}

/// Which layers a pass runs through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    Model,
    Draft,
}

/// A MoE layer that waits for its routed experts.
#[derive(Debug)]
struct Pause<B: Backend> {
    layer: usize,
    /// What experts compute on: `[rows, hidden]`.
    input: B::Tensor,
    routing: Routing,
    shared: Shared<B::Tensor>,
}

/// Output of the shared experts of the paused layer.
#[derive(Debug)]
enum Shared<T> {
    Pending,
    Computed(T),
    None,
}

impl<B: Backend> Runner<B> {
    /// Takes the weights and one cache for each layer.
    pub fn new(
        backend: Arc<B>,
        model: DenseModel<B>,
        caches: Vec<B::Cache>,
        shape: RunnerShape,
    ) -> Self {
        Self { backend, model, caches, shape, pass: None, states: None, pulse: Pulse::default() }
    }

    fn row_layout(&self, segments: Vec<Segment>) -> Result<(RowLayout, Vec<u32>), ExecutorError> {
        let block_tokens = self.shape.cache.block_tokens;
        let mut layout = RowLayout { rows: Vec::new(), blocks: Vec::new(), block_tokens };
        let mut wanted = Vec::new();
        for (index, segment) in segments.into_iter().enumerate() {
            self.check(index, &segment)?;
            for (offset, &token_id) in segment.token_ids.iter().enumerate() {
                let position = segment.position + offset;
                layout.rows.push(LayoutRow { token_id, position, segment: index });
            }
            let end = layout.rows.len();
            let first = end - segment.logits.rows(segment.token_ids.len());
            wanted.extend((first..end).map(|row| row as u32));
            layout.blocks.push(segment.blocks);
        }
        Ok((layout, wanted))
    }

    fn check(&self, index: usize, segment: &Segment) -> Result<(), ExecutorError> {
        if segment.token_ids.is_empty() {
            return Err(ExecutorError::EmptySegment { segment: index });
        }
        let end = segment.position.saturating_add(segment.token_ids.len());
        let context_length = self.shape.context_length;
        if end > context_length {
            return Err(ExecutorError::PastContext { position: end - 1, context_length });
        }
        let needed = end.div_ceil(self.shape.cache.block_tokens);
        let brought = segment.blocks.len();
        if brought < needed {
            return Err(ExecutorError::BlocksMissing { segment: index, needed, brought });
        }
        let block_count = self.shape.cache.block_count;
        let outside =
            |block: u32| usize::try_from(block).map_or(true, |block| block >= block_count);
        if let Some(block) = segment.blocks[..needed].iter().find(|block| outside(block.0)) {
            return Err(ExecutorError::BlockOutOfRange { block: block.0, block_count });
        }
        let vocab_size = self.shape.vocab_size;
        let unknown = |id: u32| usize::try_from(id).map_or(true, |id| id >= vocab_size);
        if let Some(&token_id) = segment.token_ids.iter().find(|id| unknown(**id)) {
            return Err(ExecutorError::TokenOutOfRange { token_id, vocab_size });
        }
        Ok(())
    }

    /// Runs layers from `first` on, to the next gate or to the logits.
    fn run(&mut self, mut pass: OpenPass<B>, first: usize) -> Progress {
        let end = match pass.stack {
            Stack::Model => self.model.layers.len(),
            Stack::Draft => self.model.layers.len() + 1,
        };
        for index in first..end {
            let input = self.attend(&mut pass, index);
            self.pulse.beat();
            match &layer(&self.model, index).feed_forward {
                FeedForwardLayer::Dense(network) => {
                    let output = network.forward(&self.backend, &input);
                    self.backend.add(&mut pass.hidden, &output);
                }
                FeedForwardLayer::Moe(moe) => {
                    let routing = moe.route(&self.backend, &input);
                    let routed = self.routed_rows(index, &input, &routing, pass.row_count);
                    let shared = match moe.shared {
                        Some(_) => Shared::Pending,
                        None => Shared::None,
                    };
                    pass.paused = Some(Pause { layer: index, input, routing, shared });
                    self.pass = Some(pass);
                    return Progress::Experts(routed);
                }
            }
        }
        Progress::Finished(self.logits(&pass))
    }

    /// The drafting layer's input: `[rows, hidden]`.
    fn draft_input(
        &self,
        draft: &DraftLayer<B>,
        rows: &B::Rows,
        states: &States<B::Tensor>,
        picked: &[u32],
    ) -> B::Tensor {
        let backend = &*self.backend;
        let eps = self.shape.rms_norm_eps;
        let tokens = backend.embed(&self.model.embedding, rows);
        let tokens = backend.rms_norm(&tokens, &draft.token_norm, eps);
        let mut input = backend.project(&tokens, &draft.token_projection, None);
        let states = backend.select(&states.normed, picked);
        let states = backend.rms_norm(&states, &draft.state_norm, eps);
        backend.add(&mut input, &backend.project(&states, &draft.state_projection, None));
        input
    }

    /// Adds attention to the hidden state and returns the feed-forward network's input.
    fn attend(&mut self, pass: &mut OpenPass<B>, index: usize) -> B::Tensor {
        let backend = &*self.backend;
        let layer = layer(&self.model, index);
        let eps = self.shape.rms_norm_eps;
        let context = Pass { backend, rows: &pass.rows, pairing: self.pairing() };
        let input = backend.rms_norm(&pass.hidden, &layer.attention_norm, eps);
        let attended = layer.attention.forward(&context, &input, &mut self.caches[index]);
        backend.add(&mut pass.hidden, &attended);
        backend.rms_norm(&pass.hidden, &layer.feed_forward_norm, eps)
    }

    fn pairing(&self) -> RopePairing {
        self.shape.rope.pairing
    }

    fn routed_rows(
        &self,
        layer: usize,
        input: &B::Tensor,
        routing: &Routing,
        row_count: usize,
    ) -> RoutedRows {
        let per_row = routing.experts_per_row;
        let route =
            |(entry, &expert): (usize, &u32)| Route { row: (entry / per_row) as u32, expert };
        RoutedRows {
            layer: layer as u32,
            row_count,
            rows: self.backend.rows_to_bytes(input),
            routes: routing.experts.iter().enumerate().map(route).collect(),
        }
    }

    fn logits(&mut self, pass: &OpenPass<B>) -> Logits {
        let backend = &*self.backend;
        let eps = self.shape.rms_norm_eps;
        let vocab_size = self.shape.vocab_size;
        let norm = match (pass.stack, &self.model.draft) {
            (Stack::Draft, Some(draft)) => &draft.norm,
            (Stack::Draft, None) | (Stack::Model, _) => &self.model.norm,
        };
        // Drafting needs the states of all a model pass's tokens, for the drafting layer's cache.
        let all = (pass.stack == Stack::Model && self.model.draft.is_some()).then(|| {
            let normed = backend.rms_norm(&pass.hidden, norm, eps);
            States { normed, row_count: pass.row_count }
        });
        if pass.wanted.is_empty() {
            self.states = all;
            return Logits { vocab_size, values: Vec::new() };
        }
        let last = match &all {
            Some(states) => backend.select(&states.normed, &pass.wanted),
            None => backend.rms_norm(&backend.select(&pass.hidden, &pass.wanted), norm, eps),
        };
        let values = backend.download(&backend.project(&last, &self.model.head, None));
        let row_count = pass.wanted.len();
        self.states = Some(all.unwrap_or(States { normed: last, row_count }));
        Logits { vocab_size, values }
    }

    fn check_outputs(&self, pause: &Pause<B>, outputs: &[&[u8]]) -> Result<(), ExecutorError> {
        let expected = pause.routing.experts.len();
        if outputs.len() != expected {
            return Err(ExecutorError::OutputCount { given: outputs.len(), expected });
        }
        let expected = self.backend.row_format().row_bytes(self.shape.hidden_size);
        match outputs.iter().position(|output| output.len() != expected) {
            Some(index) => {
                let given = outputs[index].len();
                Err(ExecutorError::OutputSize { index, given, expected })
            }
            None => Ok(()),
        }
    }
}

/// The model's layers, and the drafting one as if it came after them.
fn layer<B: Backend>(model: &DenseModel<B>, index: usize) -> &Layer<B> {
    match &model.draft {
        Some(draft) if index == model.layers.len() => &draft.layer,
        Some(_) | None => &model.layers[index],
    }
}

/// The rows of states that the segments start from and go through.
fn picked_states(segments: &[DraftSegment], state_count: usize) -> Result<Vec<u32>, ExecutorError> {
    let mut picked = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let end = segment.state_row.saturating_add(segment.next.token_ids.len());
        if end > state_count {
            let row = segment.state_row;
            return Err(ExecutorError::StateMissing { segment: index, row, state_count });
        }
        picked.extend((segment.state_row..end).map(|row| row as u32));
    }
    Ok(picked)
}

/// Runs the shared experts unless that has happened.
fn compute_shared<B: Backend>(backend: &B, model: &DenseModel<B>, pause: &mut Pause<B>) {
    if let (Shared::Pending, FeedForwardLayer::Moe(moe)) =
        (&pause.shared, &layer(model, pause.layer).feed_forward)
    {
        pause.shared = match &moe.shared {
            Some(network) => Shared::Computed(network.forward(backend, &pause.input)),
            None => Shared::None,
        };
    }
}

impl<B: Backend> Executor for Runner<B> {
    fn cache_shape(&self) -> CacheShape {
        self.shape.cache
    }

    fn begin(&mut self, batch: Batch) -> Result<Progress, ExecutorError> {
        if self.pass.is_some() {
            return Err(ExecutorError::PassOpen);
        }
        let (layout, wanted) = self.row_layout(batch.segments)?;
        self.states = None;
        let row_count = layout.rows.len();
        if row_count == 0 {
            return Ok(self.nothing());
        }
        let rows = self.backend.rows(&layout, &self.shape.rope);
        let hidden = self.backend.embed(&self.model.embedding, &rows);
        let stack = Stack::Model;
        Ok(self.run(OpenPass { rows, row_count, stack, wanted, hidden, paused: None }, 0))
    }

    fn drafting(&self) -> Drafting {
        match self.model.draft {
            Some(_) => Drafting::Present,
            None => Drafting::Absent,
        }
    }

    fn begin_draft(&mut self, segments: Vec<DraftSegment>) -> Result<Progress, ExecutorError> {
        if self.pass.is_some() {
            return Err(ExecutorError::PassOpen);
        }
        let draft = self.model.draft.as_ref().ok_or(ExecutorError::NoDraftLayer)?;
        let state_count = self.states.as_ref().map_or(0, |states| states.row_count);
        let picked = picked_states(&segments, state_count)?;
        let segments = segments.into_iter().map(|segment| segment.next).collect();
        let (layout, wanted) = self.row_layout(segments)?;
        let row_count = layout.rows.len();
        let Some(states) = self.states.as_ref().filter(|_| row_count > 0) else {
            return Ok(self.nothing());
        };
        let rows = self.backend.rows(&layout, &self.shape.rope);
        let hidden = self.draft_input(draft, &rows, states, &picked);
        self.states = None;
        let stack = Stack::Draft;
        let pass = OpenPass { rows, row_count, stack, wanted, hidden, paused: None };
        Ok(self.run(pass, self.model.layers.len()))
    }

    fn overlap(&mut self) {
        if let Some(pause) = self.pass.as_mut().and_then(|pass| pass.paused.as_mut()) {
            compute_shared(&*self.backend, &self.model, pause);
        }
    }

    fn resume(&mut self, outputs: &[&[u8]]) -> Result<Progress, ExecutorError> {
        let pause = self.pass.as_ref().and_then(|pass| pass.paused.as_ref());
        self.check_outputs(pause.ok_or(ExecutorError::NoPassOpen)?, outputs)?;
        self.overlap();
        let mut pass = self.pass.take().ok_or(ExecutorError::NoPassOpen)?;
        let pause = pass.paused.take().ok_or(ExecutorError::NoPassOpen)?;
        let shared = match &pause.shared {
            Shared::Computed(output) => Some(output),
            Shared::Pending | Shared::None => None,
        };
        self.backend.combine(&mut pass.hidden, &pause.routing, outputs, shared);
        Ok(self.run(pass, pause.layer + 1))
    }

    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    fn abandon(&mut self) {
        self.pass = None;
    }
}

impl<B: Backend> Runner<B> {
    /// The end of a pass without rows.
    fn nothing(&self) -> Progress {
        Progress::Finished(Logits { vocab_size: self.shape.vocab_size, values: Vec::new() })
    }

    /// Format in which rows leave and enter.
    pub fn row_format(&self) -> RowFormat {
        self.backend.row_format()
    }
}
