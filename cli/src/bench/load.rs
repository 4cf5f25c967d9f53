//! `boyle bench load`: how long a model takes from storage into memory, beside a plain read of its files.

use super::engine::{Opened, open};
use super::error::BenchError;
use super::median;
use crate::arguments::BenchLoadArguments;
use crate::progress::Progress;
use model::load::{LoadError, ModelLoader};
use serde::Serialize;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// One read's size: large enough that calls do not count, small enough for the second-level cache.
const READ_BYTES: usize = 1 << 20;
const REPETITIONS: usize = 3;
/// The smallest cache there can be: what is timed are the weights.
const ONE_BLOCK: model::executor::CacheShape =
    model::executor::CacheShape { block_tokens: 1, block_count: 1 };

#[derive(Debug, Serialize)]
struct LoadReport {
    version: &'static str,
    model: PathBuf,
    kernel_path: String,
    /// Bytes of the safetensors files.
    file_bytes: u64,
    /// Bytes of the weights in memory.
    memory_bytes: u64,
    /// The files are in the page cache.
    warm: Rates,
    /// The page cache was asked to drop them; `None` where it cannot be asked.
    cold: Option<Rates>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Rates {
    load_seconds: f64,
    /// File bytes over load time.
    load_bytes_per_second: f64,
    read_seconds: f64,
    read_bytes_per_second: f64,
}

/// Loads and reads, and prints the times.
///
/// # Errors
/// [`BenchError`].
pub fn run(arguments: &BenchLoadArguments) -> Result<(), BenchError> {
    let opened = open(&arguments.model, arguments.kernel.as_deref(), None)?;
    super::engine::check_model_memory(&opened)?;
    let files = weight_files(&arguments.model)?;
    let file_bytes = files.iter().map(|(_, bytes)| bytes).sum();
    let mut progress = Progress::new();
    let mut memory_bytes = 0;
    let mut timed = |cache: PageCache| -> Result<Option<Rates>, BenchError> {
        let (mut loads, mut reads) = (Vec::new(), Vec::new());
        for repetition in 1..=REPETITIONS {
            progress.step(&format!("page cache {}: {repetition} of {REPETITIONS}", cache.name()));
            if !cache.prepare(&files)? {
                return Ok(None);
            }
            reads.push(seconds(|| read_all(&files))?.0);
            cache.prepare(&files)?;
            let (time, bytes) = seconds(|| load_all(&arguments.model, &opened))?;
            memory_bytes = bytes;
            loads.push(time);
        }
        Ok(Some(Rates::new(file_bytes, median(loads), median(reads))))
    };
    // The first read of the warm case fills the page cache; it is not timed.
    let warm = timed(PageCache::Warm)?;
    let cold = timed(PageCache::Cold)?;
    progress.finish();
    let Some(warm) = warm else { return Ok(()) };
    LoadReport {
        version: env!("CARGO_PKG_VERSION"),
        model: arguments.model.clone(),
        kernel_path: opened.path.to_string(),
        file_bytes,
        memory_bytes,
        warm,
        cold,
    }
    .print(arguments.output);
    Ok(())
}

impl Rates {
    fn new(bytes: u64, load_seconds: f64, read_seconds: f64) -> Self {
        Self {
            load_seconds,
            load_bytes_per_second: bytes as f64 / load_seconds,
            read_seconds,
            read_bytes_per_second: bytes as f64 / read_seconds,
        }
    }
}

impl LoadReport {
    fn print(&self, output: crate::arguments::BenchOutput) {
        if output.json {
            // Only text and finite numbers are in it.
            print_line!("{}", serde_json::to_string(self).unwrap_or_default());
            return;
        }
        let size = |bytes: u64| bytes as f64 / 1e9;
        print_line!(
            "{:.2} GB in files, {:.2} GB in memory, kernel path {}",
            size(self.file_bytes),
            size(self.memory_bytes),
            self.kernel_path
        );
        print_line!("{:<12} {:>10} {:>10} {:>10} {:>10}", "page cache", "load", "", "read", "");
        for (name, rates) in [("warm", Some(self.warm)), ("cold", self.cold)] {
            match rates {
                Some(rates) => print_line!(
                    "{name:<12} {:>8.2} s {:>5.2} GB/s {:>8.2} s {:>5.2} GB/s",
                    rates.load_seconds,
                    rates.load_bytes_per_second / 1e9,
                    rates.read_seconds,
                    rates.read_bytes_per_second / 1e9
                ),
                None => {
                    print_line!("{name:<12} the system does not drop files from its page cache");
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum PageCache {
    Warm,
    Cold,
}

impl PageCache {
    fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }

    /// Fills or empties it; whether that was possible.
    fn prepare(self, files: &[(PathBuf, u64)]) -> Result<bool, BenchError> {
        match self {
            Self::Warm => read_all(files).map(|_| true),
            Self::Cold => {
                let mut all = true;
                for (path, _) in files {
                    all &= drop_pages(path)?;
                }
                Ok(all)
            }
        }
    }
}

fn drop_pages(path: &Path) -> Result<bool, BenchError> {
    let failed = |source| BenchError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    // Pages that are not on disk yet would stay.
    file.sync_all().map_err(failed)?;
    // SAFETY: the descriptor is open for as long as `file`, and the call touches no memory of ours.
    let status = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    Ok(status == 0)
}

fn weight_files(directory: &Path) -> Result<Vec<(PathBuf, u64)>, BenchError> {
    let failed = |source| BenchError::Read { path: directory.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = path.metadata().map_err(failed)?.len();
            files.push((path, bytes));
        }
    }
    files.sort();
    Ok(files)
}

fn read_all(files: &[(PathBuf, u64)]) -> Result<u64, BenchError> {
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    for (path, _) in files {
        let failed = |source| BenchError::Read { path: path.clone(), source };
        let mut file = File::open(path).map_err(failed)?;
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => total += count as u64,
            }
        }
    }
    Ok(total)
}

/// Everything from opening the folder on; returns the bytes that came into memory.
fn load_all(directory: &Path, opened: &Opened) -> Result<u64, BenchError> {
    let load = || -> Result<u64, LoadError> {
        let loader = ModelLoader::open_with(directory, opened.path, Arc::clone(&opened.parallel))?;
        let mut bytes = 0;
        let executor = loader.load_executor(ONE_BLOCK, 1, &mut |more| bytes += more)?;
        let wanted = loader.expert_addresses().into_iter().collect();
        let experts = loader.load_experts(None, &wanted, &mut |more| bytes += more)?;
        std::hint::black_box((executor, experts));
        Ok(bytes)
    };
    load().map_err(|source| BenchError::Model { path: directory.into(), source: Box::new(source) })
}

fn seconds(work: impl FnOnce() -> Result<u64, BenchError>) -> Result<(f64, u64), BenchError> {
    let began = Instant::now();
    let bytes = work()?;
    Ok((began.elapsed().as_secs_f64(), bytes))
}
