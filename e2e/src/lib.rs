//! What black-box tests need: the built binary, a deployment that is always cleaned up, a client that speaks HTTP,
//! traffic with known answers.
//!
//! Knows nothing of the other crates' types: it reads what a person can read.

pub mod binary;
pub mod client;
pub mod deployment;
pub mod evaluation;
pub mod kube;
pub mod processes;
pub mod python;
pub mod scenario;
pub mod scenarios;
pub mod status;
pub mod storage;
pub mod traffic;
pub mod waiting;

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// Fits CI.
    Short,
    /// `cargo xtask e2e --full`.
    Full,
}

/// What this run was asked for.
pub fn thoroughness() -> Thoroughness {
    match std::env::var("BOYLE_E2E").as_deref() {
        Ok("full") => Thoroughness::Full,
        _ => Thoroughness::Short,
    }
}
