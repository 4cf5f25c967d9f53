//! Which code computes. Two paths round differently, so a deployment that promises equal transcripts runs one.

use std::fmt;
use std::str::FromStr;

/// A way to compute, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelPath {
    /// f32 throughout, plain loops.
    Reference,
    /// bf16 weights, any processor.
    Portable,
    /// bf16 weights, AVX2 and FMA.
    Avx2,
    /// bf16 weights, AVX-512 (F, BW, VL, DQ).
    Avx512,
    /// As [`Self::Avx512`], and routed experts and the head by bf16 dot products (AVX-512 BF16).
    Avx512Bf16,
}

/// This processor lacks the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this processor cannot run kernel path {path}; it can run {}",
    KernelPath::available().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
)]
pub struct PathUnavailable {
    pub path: KernelPath,
}

/// Not a path's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no kernel path: write reference, portable, avx2, avx512 or avx512bf16")]
pub struct UnknownPath {
    pub name: String,
}

impl KernelPath {
    const ALL: [Self; 5] =
        [Self::Reference, Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// Every path that this processor runs, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|path| path.is_available()).collect()
    }

    /// The fastest path that this processor runs.
    pub fn best() -> Self {
        Self::available().into_iter().max().unwrap_or(Self::Portable)
    }

    /// Whether this processor runs it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Reference | Self::Portable => true,
            Self::Avx2 => has_avx2(),
            Self::Avx512 => has_avx512(),
            Self::Avx512Bf16 => has_avx512() && has_avx512_bf16(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512_bf16() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

impl fmt::Display for KernelPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Reference => "reference",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        })
    }
}

impl FromStr for KernelPath {
    type Err = UnknownPath;

    fn from_str(name: &str) -> Result<Self, UnknownPath> {
        let found = Self::ALL.into_iter().find(|path| path.to_string() == name);
        found.ok_or_else(|| UnknownPath { name: name.to_owned() })
    }
}
