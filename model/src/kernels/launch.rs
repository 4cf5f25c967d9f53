//! The one place where code for an instruction set is entered.

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::{Avx512, Paired, Widened};
use super::lanes::{Lanes, Portable};
use super::path::{KernelPath, PathUnavailable};

/// Instructions that this processor was seen to have. Only [`Instructions::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instructions(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

impl Instructions {
    /// Instructions of a path, when the processor has them; the reference path has none of its own.
    pub(super) fn detect(path: KernelPath) -> Result<Self, PathUnavailable> {
        if !path.is_available() {
            return Err(PathUnavailable { path });
        }
        match path {
            KernelPath::Portable => Ok(Self(Set::Portable)),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx2 => Ok(Self(Set::Avx2)),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx512 => Ok(Self(Set::Avx512)),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx512Bf16 => Ok(Self(Set::Avx512Bf16)),
            #[cfg(not(target_arch = "x86_64"))]
            KernelPath::Avx2 | KernelPath::Avx512 | KernelPath::Avx512Bf16 => {
                Err(PathUnavailable { path })
            }
            KernelPath::Reference => Err(PathUnavailable { path }),
        }
    }
}

impl Instructions {
    /// Whether anything is gained by activations in bf16: without vectors there is not, and precision stays.
    pub(super) fn round_activations(self) -> bool {
        self.0 != Set::Portable
    }
}

/// A piece of work that can be compiled for any [`Lanes`]. `run` and all it calls must be `#[inline(always)]`, or
/// the code is compiled without the instructions.
pub(super) trait Kernel {
    fn run<L: Lanes>(self);
}

/// Runs a kernel.
pub(super) fn launch(instructions: Instructions, kernel: impl Kernel) {
    match instructions.0 {
        Set::Portable => kernel.run::<Portable>(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Instructions` of this set exists only on a processor that has it.
        Set::Avx2 => unsafe { launch_avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx512 => unsafe { launch_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx512Bf16 => unsafe { launch_avx512_bf16(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn launch_avx2(kernel: impl Kernel) {
    kernel.run::<Avx2>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn launch_avx512(kernel: impl Kernel) {
    kernel.run::<Avx512<Widened>>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn launch_avx512_bf16(kernel: impl Kernel) {
    kernel.run::<Avx512<Paired>>();
}
