//! Measures what the machine can do: reading memory, and arithmetic, with every thread.

use super::limits::MachineLimits;
use super::median;
use model::kernels::KernelPath;
use model::kernels::PathUnavailable;
use model::kernels::peak::{PeakLoop, stream};
use std::hint::black_box;
use std::num::NonZero;
use std::time::{Duration, Instant};

/// Values that each thread reads: 256 MiB, which no cache holds.
pub const STREAM_VALUES: usize = 64 << 20;
/// Reads of one repetition: long enough that starting threads does not count.
const STREAM_READS: usize = 4;
/// How long one repetition of arithmetic takes about: longer than a clock's change of frequency.
const ARITHMETIC: Duration = Duration::from_millis(150);
/// Rounds of the first, short try.
const ROUNDS_FIRST: u64 = 100_000;
/// More than the model's: these are short, and others may disturb them.
const REPETITIONS: usize = 5;

/// What people call this machine.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
}

impl Machine {
    pub fn read() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("model name"));
        let name = name.map(|rest| rest.trim_start_matches([' ', '\t', ':']));
        Self { processor: name.unwrap_or("unknown").to_owned(), cores: cores() }
    }
}

/// Processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Memory that measuring takes, in bytes.
pub fn bytes_needed(threads: usize) -> u64 {
    threads as u64 * STREAM_VALUES as u64 * 4
}

/// Measures with `threads` threads and the instructions of `path`.
///
/// # Errors
/// [`PathUnavailable`].
pub fn measure(path: KernelPath, threads: usize) -> Result<MachineLimits, PathUnavailable> {
    let mut f32_flop_per_second: f64 = 0.0;
    for peak in PeakLoop::multiply_adds(path)? {
        f32_flop_per_second = f32_flop_per_second.max(flop_per_second(peak, threads));
    }
    Ok(MachineLimits {
        read_bytes_per_second: read_bytes_per_second(path, threads)?,
        f32_flop_per_second,
        bf16_flop_per_second: PeakLoop::bf16_dots().map(|peak| flop_per_second(peak, threads)),
    })
}

fn flop_per_second(peak: PeakLoop, threads: usize) -> f64 {
    let began = Instant::now();
    black_box(peak.run(ROUNDS_FIRST));
    let first = began.elapsed().as_secs_f64().max(1e-6);
    let rounds = (ROUNDS_FIRST as f64 * ARITHMETIC.as_secs_f64() / first) as u64;
    let rounds = rounds.max(ROUNDS_FIRST);
    let flop = peak.run(1).flop as f64 * rounds as f64 * threads as f64;
    let rates =
        (0..REPETITIONS).map(|_| flop / on_all(threads, |_| black_box(peak.run(rounds)).flop));
    median(rates.collect())
}

fn read_bytes_per_second(path: KernelPath, threads: usize) -> Result<f64, PathUnavailable> {
    // Written once by the thread that reads it later, so that its memory is near where there are several nodes.
    let buffers: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let made: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| vec![1.0_f32; STREAM_VALUES])).collect();
        made.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    stream(path, &[])?;
    let bytes = (buffers.len() * STREAM_VALUES * 4 * STREAM_READS) as f64;
    let read = |thread: usize| {
        for _ in 0..STREAM_READS {
            let _ = black_box(stream(path, black_box(&buffers[thread])));
        }
    };
    let rates = (0..REPETITIONS).map(|_| bytes / on_all(buffers.len(), read));
    Ok(median(rates.collect()))
}

/// Seconds until every thread has done its work.
fn on_all<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || black_box(work(thread)));
        }
    });
    began.elapsed().as_secs_f64()
}
