//! One layer's paged cache: rows of whole vectors, each on its own cache lines.
//!
//! It stays f32: rounded to bf16 it made gates choose other experts, which moved logits a thousand times more than
//! everything else on the CPU paths together.

use super::lanes::LANES;
use crate::backend::{CacheWidth, RowLayout};
use crate::executor::CacheShape;
use crate::reference::HostTensor;
use std::ops::Range;

/// Bytes of a line of the processor's caches.
const LINE_BYTES: usize = 64;

/// Vectors `[positions, vectors]`, aligned to cache lines.
#[derive(Debug)]
pub(super) struct CachePart {
    /// Vectors of one position.
    vectors: usize,
    /// With room to begin on a line.
    values: Vec<f32>,
    first: usize,
}

/// Where heads are kept in a position of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadWidth {
    /// Values of one head.
    pub width: usize,
    /// Vectors of one head, the last one filled up with zeros.
    pub vectors: usize,
}

impl HeadWidth {
    pub(super) fn new(width: usize) -> Self {
        Self { width, vectors: width.div_ceil(LANES) }
    }
}

impl CachePart {
    fn new(positions: usize, vectors: usize) -> Self {
        // From the system as zeros, page by page when they are first written.
        let values = vec![0.0_f32; positions * vectors * LANES + LINE_BYTES / size_of::<f32>()];
        let first = values.as_ptr().align_offset(LINE_BYTES);
        Self { vectors, values, first }
    }

    /// Vectors `range` of a position.
    #[inline(always)]
    pub(super) fn row(&self, slot: usize, range: Range<usize>) -> &[[f32; LANES]] {
        let start = self.first + (slot * self.vectors + range.start) * LANES;
        self.values[start..start + range.len() * LANES].as_chunks().0
    }

    fn row_mut(&mut self, slot: usize) -> &mut [f32] {
        let start = self.first + slot * self.vectors * LANES;
        &mut self.values[start..start + self.vectors * LANES]
    }
}

/// MLA: latent and roped key of a position side by side. GQA: keys and values.
#[derive(Debug)]
pub struct CpuCache {
    pub(super) width: CacheWidth,
    pub(super) keys: CachePart,
    pub(super) values: CachePart,
}

impl CpuCache {
    pub(super) fn new(width: CacheWidth, shape: CacheShape) -> Self {
        let positions = shape.block_count * shape.block_tokens;
        let (keys, values) = vectors(width);
        Self {
            width,
            keys: CachePart::new(positions, keys),
            values: CachePart::new(positions, values),
        }
    }

    /// Writes every row at its position: latent and roped key, or keys and values.
    pub(super) fn store(&mut self, layout: &RowLayout, first: &HostTensor, second: &HostTensor) {
        for (index, row) in layout.rows.iter().enumerate() {
            let slot = layout.slot(row.segment, row.position);
            match self.width {
                CacheWidth::Latent { latent, rope } => {
                    let target = self.keys.row_mut(slot);
                    target[..latent].copy_from_slice(first.row(index));
                    target[latent..latent + rope].copy_from_slice(second.row(index));
                }
                CacheWidth::KeysValues { kv_heads, head_dim } => {
                    for (part, source) in [(&mut self.keys, first), (&mut self.values, second)] {
                        let stride = HeadWidth::new(head_dim).vectors * LANES;
                        let target = part.row_mut(slot);
                        for head in 0..kv_heads {
                            target[head * stride..][..head_dim]
                                .copy_from_slice(&source.row(index)[head * head_dim..][..head_dim]);
                        }
                    }
                }
            }
        }
    }
}

/// Vectors of one position in both parts.
fn vectors(width: CacheWidth) -> (usize, usize) {
    match width {
        CacheWidth::Latent { latent, rope } => (HeadWidth::new(latent + rope).vectors, 0),
        CacheWidth::KeysValues { kv_heads, head_dim } => {
            let vectors = kv_heads * HeadWidth::new(head_dim).vectors;
            (vectors, vectors)
        }
    }
}

/// Bytes of one position.
pub(super) fn position_bytes(width: CacheWidth) -> u64 {
    let (keys, values) = vectors(width);
    ((keys + values) * LANES * size_of::<f32>()) as u64
}
