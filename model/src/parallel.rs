//! The seam to whoever has threads: this crate says what may happen at the same time, and never makes it so.

use std::fmt;

/// Runs the parts of one piece of work, perhaps at the same time.
pub trait Parallel: Send + Sync + fmt::Debug {
    /// How many parts run at the same time at most; a hint for cutting work.
    fn width(&self) -> usize;

    /// Calls `part(i)` once for each `i` below `count`, and returns when all have returned. A panic of a part comes
    /// out of this call.
    fn run(&self, count: usize, part: &(dyn Fn(usize) + Sync));
}

/// One part after the other, on the caller's thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn width(&self) -> usize {
        1
    }

    fn run(&self, count: usize, part: &(dyn Fn(usize) + Sync)) {
        for index in 0..count {
            part(index);
        }
    }
}
