//! The forward pass: runs layers until a gate needs routed experts, and goes on when their outputs are there.

use crate::backend::{Backend, LayoutRow, Routing, RowLayout};
use crate::config::{Rope, RopePairing};
use crate::executor::{
    Batch, CacheShape, Executor, ExecutorError, Logits, LogitsWanted, Progress, Pulse, Route,
    RoutedRows, RowFormat, Segment,
};
use crate::layers::attention::Pass;
use crate::layers::{DenseModel, FeedForwardLayer};
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
    /// One for each layer.
    caches: Vec<B::Cache>,
    shape: RunnerShape,
    pass: Option<OpenPass<B>>,
    pulse: Pulse,
}

/// A pass between `begin` and its end.
#[derive(Debug)]
struct OpenPass<B: Backend> {
    rows: B::Rows,
    row_count: usize,
    /// Rows whose logits are wanted, in segment order.
    wanted: Vec<u32>,
    /// `[rows, hidden]`
    hidden: B::Tensor,
    paused: Option<Pause<B>>,
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
        Self { backend, model, caches, shape, pass: None, pulse: Pulse::default() }
    }

    fn row_layout(&self, batch: Batch) -> Result<(RowLayout, Vec<u32>), ExecutorError> {
        let block_tokens = self.shape.cache.block_tokens;
        let mut layout = RowLayout { rows: Vec::new(), blocks: Vec::new(), block_tokens };
        let mut wanted = Vec::new();
        for (index, segment) in batch.segments.into_iter().enumerate() {
            self.check(index, &segment)?;
            for (offset, &token_id) in segment.token_ids.iter().enumerate() {
                let position = segment.position + offset;
                layout.rows.push(LayoutRow { token_id, position, segment: index });
            }
            if segment.logits == LogitsWanted::LastToken {
                wanted.push((layout.rows.len() - 1) as u32);
            }
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
        for index in first..self.model.layers.len() {
            let input = self.attend(&mut pass, index);
            self.pulse.beat();
            match &self.model.layers[index].feed_forward {
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

    /// Adds attention to the hidden state and returns the feed-forward network's input.
    fn attend(&mut self, pass: &mut OpenPass<B>, index: usize) -> B::Tensor {
        let backend = &*self.backend;
        let layer = &self.model.layers[index];
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

    fn logits(&self, pass: &OpenPass<B>) -> Logits {
        let backend = &*self.backend;
        let vocab_size = self.shape.vocab_size;
        if pass.wanted.is_empty() {
            return Logits { vocab_size, values: Vec::new() };
        }
        let last = backend.select(&pass.hidden, &pass.wanted);
        let last = backend.rms_norm(&last, &self.model.norm, self.shape.rms_norm_eps);
        let logits = backend.project(&last, &self.model.head, None);
        Logits { vocab_size, values: backend.download(&logits) }
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

/// Runs the shared experts unless that has happened.
fn compute_shared<B: Backend>(backend: &B, model: &DenseModel<B>, pause: &mut Pause<B>) {
    if let (Shared::Pending, FeedForwardLayer::Moe(moe)) =
        (&pause.shared, &model.layers[pause.layer].feed_forward)
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
        let (layout, wanted) = self.row_layout(batch)?;
        let row_count = layout.rows.len();
        if row_count == 0 {
            let vocab_size = self.shape.vocab_size;
            return Ok(Progress::Finished(Logits { vocab_size, values: Vec::new() }));
        }
        let rows = self.backend.rows(&layout, &self.shape.rope);
        let hidden = self.backend.embed(&self.model.embedding, &rows);
        Ok(self.run(OpenPass { rows, row_count, wanted, hidden, paused: None }, 0))
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
    /// Format in which rows leave and enter.
    pub fn row_format(&self) -> RowFormat {
        self.backend.row_format()
    }
}
