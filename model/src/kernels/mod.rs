//! CPU kernels: one source for each operation, compiled for every instruction set and chosen at run time.
//!
//! Batch invariance by construction: an output element is one accumulation over the inner dimension in one order;
//! blocks over rows and outputs only decide which elements are computed side by side.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cache;
mod cpu;
mod disjoint;
mod dot;
#[cfg(target_arch = "x86_64")]
mod dot_peak;
mod experts;
mod lanes;
mod launch;
mod matmul;
mod pack;
mod path;
pub mod peak;
mod rows;
mod split;
mod weights;

pub use cache::CpuCache;
pub use cpu::{CpuBackend, CpuMatrix, CpuRows, CpuTable};
pub use path::{KernelPath, PathUnavailable, UnknownPath};
