//! What keeps a benchmark from running.

use engine::engine::SubmitError;
use model::kernels::{PathUnavailable, UnknownPath};
use model::load::LoadError;
use std::path::PathBuf;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{} is no folder; give one with a config.json and safetensors files", path.display())]
    NoFolder { path: PathBuf },
    #[error("the model in {} cannot be used", path.display())]
    Model {
        path: PathBuf,
        #[source]
        source: Box<LoadError>,
    },
    #[error("cannot start {threads} threads; ask for fewer by --threads")]
    Threads { threads: usize, source: std::io::Error },
    #[error("--kernel")]
    KernelName(#[from] UnknownPath),
    #[error(transparent)]
    Kernel(#[from] PathUnavailable),
    #[error("{name:?} is no cell: write prefill_N, decode_bN or decode_b1_ctxN, as in {example}")]
    UnknownCell { name: String, example: &'static str },
    #[error(
        "cell {cell} needs a context of {needed} tokens and the model has {max}; leave it out of --cells"
    )]
    ContextTooLong { cell: String, needed: usize, max: usize },
    #[error("the model's context of {max} tokens is too short for every usual cell; give --cells")]
    NoCell { max: usize },
    #[error(
        "the model, its cache and the measurement need {needed} and {available} are available; choose fewer or smaller --cells, or a smaller model"
    )]
    Memory { needed: String, available: String },
    #[error("the engine did not take a prompt")]
    Submit(#[from] SubmitError),
    #[error(
        "cell {cell} has no result after {attempts} attempts: 34 tokens took no longer than 2; stop what else runs on this machine"
    )]
    Disturbed { cell: String, attempts: usize },
    #[error("the engine failed: {message}")]
    Engine { message: String },
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}
