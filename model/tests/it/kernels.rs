//! Every operation of the CPU backend against the plain f32 backend, over shapes that cut blocks and vectors anywhere.

use crate::random::Random;
use crate::run::bits;
use model::backend::{
    Backend, CacheWidth, Latent, LayoutRow, MatrixLayout, MatrixSize, Precision, RowLayout, Split,
    WeightRows,
};
use model::config::{Rope, RopePairing};
use model::executor::{BlockId, CacheShape};
use model::kernels::{CpuBackend, KernelPath};
use model::reference::{HostTensor, ReferenceBackend};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

/// Both sides sum in f32, in another order: a difference of some units in the last place of the largest term.
const TOLERANCE: f32 = 2e-6;

fn config() -> Config {
    Config { cases: 256, rng_seed: RngSeed::Fixed(0x0B0F_1E02), ..Config::default() }
}

fn cpu_backends() -> Vec<CpuBackend> {
    let paths = KernelPath::available();
    paths.into_iter().filter_map(|path| CpuBackend::new(path).ok()).collect()
}

/// Values from −1 to 1 that bf16 holds exactly.
pub fn values(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| (random.below(257) as f32 - 128.0) / 128.0).collect()
}

/// Activations from −1 to 1 with all bits of f32 in use: sums of short values would be exact in any order, and show
/// no difference between two orders.
pub fn tensor(random: &mut Random, rows: usize, columns: usize) -> HostTensor {
    let value = |_| (random.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0;
    HostTensor::new(rows, columns, (0..rows * columns).map(value).collect())
}

/// Weights with a scale for each row and block of inputs.
pub struct Weights {
    size: MatrixSize,
    block: usize,
    values: Vec<f32>,
    scales: Vec<f32>,
}

impl Weights {
    pub fn new(random: &mut Random, size: MatrixSize, block: usize) -> Self {
        let blocks = size.columns.div_ceil(block);
        let scales = values(random, size.rows * blocks).iter().map(|v| v.abs() + 0.1).collect();
        Self { size, block, values: values(random, size.rows * size.columns), scales }
    }

    /// All scales 1.
    pub fn plain(random: &mut Random, size: MatrixSize) -> Self {
        let mut weights = Self::new(random, size, size.columns.max(1));
        weights.scales.fill(1.0);
        weights
    }
}

impl WeightRows for Weights {
    fn size(&self) -> MatrixSize {
        self.size
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        let mut scales = vec![0.0; self.size.columns.div_ceil(self.block)];
        self.read_scaled_row(row, out, &mut scales);
        for (column, out) in out.iter_mut().enumerate() {
            *out *= scales[column / self.block];
        }
    }

    fn read_scaled_row(&self, row: usize, values: &mut [f32], scales: &mut [f32]) {
        let (columns, blocks) = (self.size.columns, scales.len());
        values.copy_from_slice(&self.values[row * columns..][..columns]);
        scales.copy_from_slice(&self.scales[row * blocks..][..blocks]);
    }
}

/// `scale` bounds the sum of the magnitudes that were added up.
#[track_caller]
pub fn assert_close(fast: &HostTensor, reference: &HostTensor, scale: f32) {
    assert_eq!((fast.rows, fast.columns), (reference.rows, reference.columns));
    for (index, (fast, reference)) in fast.values.iter().zip(&reference.values).enumerate() {
        let difference = (fast - reference).abs();
        assert!(difference <= TOLERANCE * (scale + 1.0), "value {index}: {fast}, not {reference}");
    }
}

fn check_project(size: MatrixSize, rows: usize, layout: MatrixLayout, block: usize) {
    let mut random = Random((size.rows * 1000 + size.columns * 10 + rows) as u64);
    let weights = match layout.precision {
        Precision::ScaledBlocks { .. } => Weights::new(&mut random, size, block),
        Precision::Working | Precision::Rounded | Precision::Exact => {
            Weights::plain(&mut random, size)
        }
    };
    let input = tensor(&mut random, rows, size.columns * layout.groups);
    let bias = values(&mut random, size.rows);
    let plain = ReferenceBackend;
    let expected = plain.project(&input, &plain.matrix(&weights, layout), Some(&bias));
    for backend in cpu_backends() {
        let matrix = backend.matrix(&weights, layout);
        let output = backend.project(&input, &matrix, Some(&bias));
        assert_close(&output, &expected, size.columns as f32);
        // Each row alone, without any other beside it, is the same to the bit.
        for row in 0..rows {
            let alone =
                backend.project(&backend.select(&input, &[row as u32]), &matrix, Some(&bias));
            assert_eq!(bits(&alone.values), bits(output.row(row)), "row {row}");
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn projections_agree(
        outputs in 0_usize..70, inner in 0_usize..150, rows in 0_usize..15, exact in any::<bool>(),
    ) {
        let precision = if exact { Precision::Exact } else { Precision::Working };
        let size = MatrixSize { rows: outputs, columns: inner };
        check_project(size, rows, MatrixLayout { groups: 1, precision }, 1);
    }

    #[test]
    fn grouped_projections_agree(
        groups in 1_usize..5, outputs in 0_usize..40, inner in 0_usize..40, rows in 0_usize..8,
    ) {
        let size = MatrixSize { rows: groups * outputs, columns: inner };
        check_project(size, rows, MatrixLayout { groups, precision: Precision::Working }, 1);
    }

    #[test]
    fn scaled_projections_agree(
        outputs in 0_usize..40, inner in 1_usize..200, rows in 0_usize..8, block in 1_usize..80,
    ) {
        let precision = Precision::ScaledBlocks { columns: block };
        let size = MatrixSize { rows: outputs, columns: inner };
        check_project(size, rows, MatrixLayout { groups: 1, precision }, block);
    }

    #[test]
    fn norms_agree(rows in 0_usize..5, columns in 1_usize..100, seed in any::<u64>()) {
        let mut random = Random(seed);
        let input = tensor(&mut random, rows, columns);
        let weight = values(&mut random, columns);
        let expected = ReferenceBackend.rms_norm(&input, &weight, 1e-6);
        for backend in cpu_backends() {
            assert_close(&backend.rms_norm(&input, &weight, 1e-6), &expected, columns as f32);
        }
    }

    #[test]
    fn activations_agree(rows in 0_usize..5, columns in 0_usize..50, seed in any::<u64>()) {
        let mut random = Random(seed);
        let mut gate = tensor(&mut random, rows, columns);
        gate.values.iter_mut().for_each(|value| *value *= 100.0);
        let up = tensor(&mut random, rows, columns);
        let mut expected = gate.clone();
        ReferenceBackend.silu_mul(&mut expected, &up);
        for backend in cpu_backends() {
            let mut output = gate.clone();
            backend.silu_mul(&mut output, &up);
            assert_close(&output, &expected, 100.0);
        }
    }

    #[test]
    fn latent_attention_agrees(
        heads in 1_usize..4, latent in 1_usize..150, half in 0_usize..10,
        lengths in prop::collection::vec(1_usize..80, 1..4), block_tokens in 1_usize..40,
    ) {
        let case = AttentionCase::new(&lengths, block_tokens, half);
        let rope = 2 * half;
        let width = CacheWidth::Latent { latent, rope };
        case.check(width, [heads * latent, heads * rope], |backend, pass| pass.latent(backend));
    }

    #[test]
    fn grouped_attention_agrees(
        kv_heads in 1_usize..4, group in 1_usize..4, half in 1_usize..70,
        lengths in prop::collection::vec(1_usize..80, 1..4), block_tokens in 1_usize..40,
    ) {
        let case = AttentionCase::new(&lengths, block_tokens, half);
        let width = CacheWidth::KeysValues { kv_heads, head_dim: 2 * half };
        case.check(width, [kv_heads * group * 2 * half, 0], |backend, pass| pass.grouped(backend));
    }
}

/// Sequences of some lengths, each cached up to its last row.
struct AttentionCase {
    layout: RowLayout,
    shape: CacheShape,
    rope: Rope,
}

/// One backend's operands.
struct AttentionPass<'a> {
    case: &'a AttentionCase,
    width: CacheWidth,
    stored: [&'a HostTensor; 2],
    query: [&'a HostTensor; 2],
}

impl AttentionCase {
    fn new(lengths: &[usize], block_tokens: usize, half: usize) -> Self {
        let mut layout = RowLayout { rows: Vec::new(), blocks: Vec::new(), block_tokens };
        let mut next_block = 0;
        for (segment, &length) in lengths.iter().enumerate() {
            let count = length.div_ceil(block_tokens) as u32;
            // Backwards, so that a sequence is not contiguous in the cache.
            layout.blocks.push((next_block..next_block + count).rev().map(BlockId).collect());
            next_block += count;
            let row = |position| LayoutRow { token_id: 0, position, segment };
            layout.rows.extend((0..length).map(row));
        }
        let rope = Rope {
            inverse_frequencies: (0..half).map(|i| 0.7_f32.powi(i as i32)).collect(),
            amplitude: 1.0,
            pairing: RopePairing::Interleaved,
        };
        Self { layout, shape: CacheShape { block_tokens, block_count: next_block as usize }, rope }
    }

    fn check(
        &self,
        width: CacheWidth,
        query_columns: [usize; 2],
        attend: impl Fn(&dyn Attends, &AttentionPass<'_>) -> HostTensor,
    ) {
        let mut random = Random(self.layout.rows.len() as u64);
        let rows = self.layout.rows.len();
        let (first, second) = match width {
            CacheWidth::Latent { latent, rope } => (latent, rope),
            CacheWidth::KeysValues { kv_heads, head_dim } => {
                (kv_heads * head_dim, kv_heads * head_dim)
            }
        };
        let stored = [tensor(&mut random, rows, first), tensor(&mut random, rows, second)];
        let query = query_columns.map(|columns| tensor(&mut random, rows, columns));
        let pass =
            AttentionPass { case: self, width, stored: stored.each_ref(), query: query.each_ref() };
        let expected = attend(&ReferenceBackend, &pass);
        for backend in cpu_backends() {
            assert_close(&attend(&backend, &pass), &expected, 4.0);
        }
    }
}

/// Backends, for closures that take either.
trait Attends {
    fn latent(&self, pass: &AttentionPass<'_>) -> HostTensor;
    fn grouped(&self, pass: &AttentionPass<'_>) -> HostTensor;
}

impl<B: Backend<Tensor = HostTensor>> Attends for B {
    fn latent(&self, pass: &AttentionPass<'_>) -> HostTensor {
        let rows = self.rows(&pass.case.layout, &pass.case.rope);
        let mut cache = self.cache(pass.width, pass.case.shape);
        let [latent, rope] = pass.stored;
        self.store_latent(&mut cache, &rows, Latent { latent, rope });
        let [latent, rope] = pass.query;
        self.attend_latent(&cache, &rows, Latent { latent, rope }, 0.3)
    }

    fn grouped(&self, pass: &AttentionPass<'_>) -> HostTensor {
        let rows = self.rows(&pass.case.layout, &pass.case.rope);
        let mut cache = self.cache(pass.width, pass.case.shape);
        let [keys, values] = pass.stored;
        self.store_keys_values(&mut cache, &rows, keys, values);
        let mut query = pass.query[0].clone();
        self.rope(&mut query, &rows, RopePairing::Halves);
        self.attend_grouped(&cache, &rows, &query, 0.3)
    }
}

impl AttentionPass<'_> {
    fn latent(&self, backend: &dyn Attends) -> HostTensor {
        backend.latent(self)
    }

    fn grouped(&self, backend: &dyn Attends) -> HostTensor {
        backend.grouped(self)
    }
}

#[test]
fn splitting_cuts_every_group() {
    let input = HostTensor::new(1, 6, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for backend in cpu_backends() {
        let (left, right) = backend.split(&input, Split { groups: 2, first: 1, second: 2 });
        assert_eq!(left.values, [1.0, 4.0]);
        assert_eq!(right.values, [2.0, 3.0, 5.0, 6.0]);
    }
}

#[test]
fn rotation_by_a_quarter_turn_swaps_pairs() {
    let layout = RowLayout {
        rows: vec![LayoutRow { token_id: 0, position: 1, segment: 0 }],
        blocks: vec![vec![BlockId(0)]],
        block_tokens: 2,
    };
    for (pairing, expected) in [
        (RopePairing::Interleaved, [-2.0, 1.0, -4.0, 3.0]),
        (RopePairing::Halves, [-3.0, -4.0, 1.0, 2.0]),
    ] {
        let quarter = std::f32::consts::FRAC_PI_2;
        let rope = Rope { inverse_frequencies: vec![quarter; 2], amplitude: 1.0, pairing };
        for backend in cpu_backends() {
            let rows = backend.rows(&layout, &rope);
            let mut head = HostTensor::new(1, 4, vec![1.0, 2.0, 3.0, 4.0]);
            backend.rope(&mut head, &rows, pairing);
            let expected = HostTensor::new(1, 4, expected.to_vec());
            assert_close(&head, &expected, 0.0);
        }
    }
}

#[test]
fn a_damaged_row_harms_no_other_and_nothing_panics() {
    let mut random = Random(9);
    let size = MatrixSize { rows: 33, columns: 65 };
    let weights = Weights::plain(&mut random, size);
    let whole = tensor(&mut random, 7, 65);
    let mut damaged = whole.clone();
    damaged.row_mut(3).fill(f32::NAN);
    damaged.row_mut(5).fill(f32::INFINITY);
    for backend in cpu_backends() {
        let matrix = backend.matrix(&weights, MatrixLayout::PROJECTION);
        let run = |input: &HostTensor| {
            let normed = backend.rms_norm(input, &vec![1.0; 65], 1e-6);
            let mut gate = backend.project(&normed, &matrix, None);
            let up = backend.project(input, &matrix, None);
            backend.silu_mul(&mut gate, &up);
            let bytes = backend.rows_to_bytes(&gate);
            backend.rows_from_bytes(33, &bytes, &[0, 1, 2, 3, 4, 5, 6])
        };
        let (expected, output) = (run(&whole), run(&damaged));
        for row in [0, 1, 2, 4, 6] {
            assert_eq!(bits(output.row(row)), bits(expected.row(row)));
        }
        assert!(output.row(3).iter().all(|value| value.is_nan()));
    }
}
