//! How work is cut for threads, and who computes which part, changes no bit; and what is only cut when it is large
//! agrees with the plain backend too.

use crate::kernels::{Weights, assert_close, tensor, values};
use crate::oracle::tiny_r1;
use crate::random::Random;
use crate::run::bits;
use model::backend::{
    Backend, CacheWidth, Latent, LayoutRow, MatrixLayout, MatrixSize, NetworkCall, Precision,
    Routing, RowLayout, run_networks,
};
use model::config::{Rope, RopePairing};
use model::executor::{BlockId, CacheShape, Experts};
use model::kernels::{CpuBackend, KernelPath};
use model::layers::feed_forward::GatedFeedForward;
use model::load::ModelLoader;
use model::parallel::Parallel;
use model::reference::{HostTensor, ReferenceBackend};
use std::sync::Arc;

/// Real threads, and each takes its parts from the end.
#[derive(Debug)]
struct Backwards;

const WIDTH: usize = 3;

impl Parallel for Backwards {
    fn width(&self) -> usize {
        WIDTH
    }

    fn run(&self, count: usize, part: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for thread in 0..WIDTH {
                scope
                    .spawn(move || (0..count).rev().filter(|i| i % WIDTH == thread).for_each(part));
            }
        });
    }
}

/// One thread, several threads.
fn backends() -> Vec<(CpuBackend, CpuBackend)> {
    let paths = KernelPath::available().into_iter();
    let pair = |path| {
        let alone = CpuBackend::new(path).ok()?;
        Some((alone, CpuBackend::with_threads(path, Arc::new(Backwards)).ok()?))
    };
    paths.filter_map(pair).collect()
}

#[test]
fn projections_are_the_same() {
    let mut random = Random(3);
    for (outputs, inner, rows, groups, precision) in [
        (1000, 300, 1, 1, Precision::Working),
        (1000, 300, 9, 1, Precision::Rounded),
        (333, 301, 13, 1, Precision::Rounded),
        (640, 256, 5, 1, Precision::ScaledBlocks { columns: 128 }),
        (100, 64, 33, 7, Precision::Working),
        (64, 512, 40, 1, Precision::Exact),
    ] {
        let size = MatrixSize { rows: outputs * groups, columns: inner };
        let layout = MatrixLayout { groups, precision };
        let weights = match precision {
            Precision::ScaledBlocks { columns } => Weights::new(&mut random, size, columns),
            _ => Weights::plain(&mut random, size),
        };
        let input = tensor(&mut random, rows, inner * groups);
        let bias = values(&mut random, size.rows);
        for (alone, threads) in backends() {
            let project = |backend: &CpuBackend| {
                backend.project(&input, &backend.matrix(&weights, layout), Some(&bias))
            };
            assert_eq!(bits(&project(&alone).values), bits(&project(&threads).values));
        }
    }
}

/// Contexts of several splits: one row of a long one alone (cut in splits), and many rows (cut in rows).
#[test]
fn long_contexts_agree_and_are_the_same() {
    let (heads, latent, rope) = (5, 40, 8);
    for (length, rows) in [(3000, 1), (1024, 1), (1025, 1), (2100, 40), (1030, 9)] {
        let case = LongContext::new(length, rows, (heads, latent, rope));
        let expected = case.run(&ReferenceBackend);
        for (alone, threads) in backends() {
            let output = case.run(&alone);
            assert_close(&output, &expected, 8.0);
            assert_eq!(bits(&output.values), bits(&case.run(&threads).values), "{length}");
            // The last row alone is the last row of many.
            let last = LongContext { rows: 1, ..case.clone() }.run(&alone);
            assert_eq!(bits(last.row(0)), bits(output.row(rows - 1)), "{length}");
        }
    }
}

/// The last `rows` positions of a sequence; all before are in the cache.
#[derive(Clone)]
struct LongContext {
    length: usize,
    rows: usize,
    heads: usize,
    stored: [HostTensor; 2],
    query: [HostTensor; 2],
}

impl LongContext {
    fn new(length: usize, rows: usize, (heads, latent, rope): (usize, usize, usize)) -> Self {
        let mut random = Random(length as u64);
        let mut some = |rows, columns| tensor(&mut random, rows, columns);
        let stored = [some(length, latent), some(length, rope)];
        let query = [some(length, heads * latent), some(length, heads * rope)];
        Self { length, rows, heads, stored, query }
    }

    fn layout(&self, positions: std::ops::Range<usize>) -> RowLayout {
        let block_tokens = 16;
        let blocks = (0..self.length.div_ceil(block_tokens) as u32).rev().map(BlockId).collect();
        let row = |position| LayoutRow { token_id: 0, position, segment: 0 };
        RowLayout { rows: positions.map(row).collect(), blocks: vec![blocks], block_tokens }
    }

    fn run<B: Backend<Tensor = HostTensor>>(&self, backend: &B) -> HostTensor {
        let rope = Rope {
            inverse_frequencies: Vec::new(),
            amplitude: 1.0,
            pairing: RopePairing::Interleaved,
        };
        let [latent, key] = &self.stored;
        let width = CacheWidth::Latent { latent: latent.columns, rope: key.columns };
        let shape = CacheShape { block_tokens: 16, block_count: self.length.div_ceil(16) };
        let mut cache = backend.cache(width, shape);
        let all = backend.rows(&self.layout(0..self.length), &rope);
        backend.store_latent(&mut cache, &all, Latent { latent, rope: key });
        let asked: Vec<u32> = (self.length - self.rows..self.length).map(|p| p as u32).collect();
        let rows = backend.rows(&self.layout(self.length - self.rows..self.length), &rope);
        let query = self.query.each_ref().map(|query| backend.select(query, &asked));
        assert_eq!(query[0].columns, self.heads * latent.columns);
        backend.attend_latent(&cache, &rows, Latent { latent: &query[0], rope: &query[1] }, 0.2)
    }
}

fn network<B: Backend>(
    backend: &B,
    parts: &[Weights; 3],
    precision: Precision,
) -> GatedFeedForward<B> {
    let matrix = |weights| backend.matrix(weights, MatrixLayout { groups: 1, precision });
    GatedFeedForward { gate: matrix(&parts[0]), up: matrix(&parts[1]), down: matrix(&parts[2]) }
}

/// Several experts at once against one after the other in f32: apart by roundings to bf16, and equal among threads.
#[test]
fn experts_agree_and_are_the_same() {
    let mut random = Random(11);
    for (hidden, intermediate, block) in [(64, 48, None), (130, 200, Some(64)), (33, 17, None)] {
        let precision = match block {
            Some(columns) => Precision::ScaledBlocks { columns },
            None => Precision::Working,
        };
        let mut weights = |rows, columns| {
            let size = MatrixSize { rows, columns };
            match block {
                Some(block) => Weights::new(&mut random, size, block),
                None => Weights::plain(&mut random, size),
            }
        };
        let experts: Vec<[Weights; 3]> = (0..9)
            .map(|_| {
                [
                    weights(intermediate, hidden),
                    weights(intermediate, hidden),
                    weights(hidden, intermediate),
                ]
            })
            .collect();
        let rows: Vec<Vec<u32>> =
            (0..9).map(|expert| (0..expert).map(|r| (r * 5 + expert) % 12).collect()).collect();
        let input = tensor(&mut Random(5), 12, hidden);
        for (alone, threads) in backends() {
            let payload = alone.rows_to_bytes(&input);
            let run = |backend: &CpuBackend| {
                let networks: Vec<_> =
                    experts.iter().map(|expert| network(backend, expert, precision)).collect();
                let calls: Vec<_> = networks
                    .iter()
                    .zip(&rows)
                    .map(|(network, rows)| NetworkCall { network, rows })
                    .collect();
                (
                    backend.experts(&calls, hidden, &payload),
                    run_networks(backend, &calls, hidden, &payload),
                )
            };
            let (together, one_by_one) = run(&alone);
            assert_eq!(together, run(&threads).0, "threads");
            let picked: Vec<u32> = (0..rows.iter().map(|rows| rows.len() as u32).sum()).collect();
            let widen = |bytes: &[u8]| alone.rows_from_bytes(hidden, bytes, &picked);
            let (fast, plain) = (widen(&together), widen(&one_by_one));
            let largest = plain.values.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            for (fast, plain) in fast.values.iter().zip(&plain.values) {
                // Two roundings to 8 bits, of terms no larger than the largest output.
                assert!((fast - plain).abs() <= largest / 64.0, "{fast}, not {plain} of {largest}");
            }
        }
    }
}

#[test]
fn row_operations_are_the_same() {
    let mut random = Random(8);
    let (rows, columns) = (300, 512);
    let input = tensor(&mut random, rows, columns);
    let other = tensor(&mut random, rows, columns);
    for (alone, threads) in backends() {
        let run = |backend: &CpuBackend| {
            let mut output = backend.rms_norm(&input, &vec![0.5; columns], 1e-6);
            backend.silu_mul(&mut output, &other);
            backend.add(&mut output, &other);
            let bytes = backend.rows_to_bytes(&output);
            let outputs: Vec<&[u8]> = bytes.chunks(columns * 2).collect();
            let routing =
                Routing { experts_per_row: 1, experts: vec![0; rows], weights: vec![0.7; rows] };
            backend.combine(&mut output, &routing, &outputs, Some(&other));
            let split = model::backend::Split { groups: 4, first: 100, second: 28 };
            let (left, right) = backend.split(&output, split);
            (bits(&left.values), bits(&right.values))
        };
        assert!(run(&alone) == run(&threads));
    }
}

/// A whole model, loaded and run by several threads.
#[test]
fn a_model_is_the_same() {
    use crate::run::{Model, segment, tokens};
    for path in KernelPath::available() {
        let mut alone = Model::load(&tiny_r1(), path, 32);
        let loader = ModelLoader::open_with(&tiny_r1(), path, Arc::new(Backwards)).unwrap();
        let mut threads = Model::of(loader, 32);
        assert_eq!(alone.experts.resident(), threads.experts.resident());
        let prompt = tokens(200, 7, alone.loader.config().vocab_size);
        let blocks: Vec<u32> = (0..25).collect();
        let run = |model: &mut Model| bits(&model.pass(vec![segment(&prompt, 0, &blocks)]).values);
        assert!(run(&mut alone) == run(&mut threads), "{path}");
    }
}
