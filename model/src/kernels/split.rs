//! How work is cut for several threads. It decides who computes what, never what comes out.

use crate::parallel::Parallel;
use std::ops::Range;

/// Weight bytes that one part reads: some tens of microseconds of streaming, so that taking a part costs little, and
/// small enough for the second-level cache when many rows use them.
const PART_BYTES: usize = 128 << 10;
/// Bytes of work below which waking others costs more than it saves (a few microseconds of one core).
const PARALLEL_BYTES_MIN: usize = 64 << 10;
/// Multiply-adds below which the same holds.
const PARALLEL_OPERATIONS_MIN: usize = 256 << 10;
/// Values of an element-wise operation in one part.
const PART_VALUES: usize = 32 << 10;

/// `count` pieces in parts of consecutive ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    count: usize,
    size: usize,
    worth: bool,
}

impl Cut {
    /// Tiles of a projection: `tile_bytes` each, used by `rows` rows.
    pub(super) fn new(tiles: usize, tile_bytes: usize, rows: usize) -> Self {
        // Several tiles are computed side by side, at most four.
        let size = (PART_BYTES / tile_bytes.max(1)).next_multiple_of(4).max(4);
        let worth = tiles * tile_bytes * rows >= PARALLEL_BYTES_MIN;
        Self { count: tiles, size, worth }
    }

    /// Rows of an element-wise operation.
    pub(super) fn rows(rows: usize, columns: usize) -> Self {
        let size = (PART_VALUES / columns.max(1)).max(1);
        Self { count: rows, size, worth: rows * columns >= 2 * PART_VALUES }
    }

    /// Pieces that take `operations` multiply-adds together.
    pub(super) fn work(count: usize, operations: usize) -> Self {
        Self { count, size: 1, worth: operations >= PARALLEL_OPERATIONS_MIN }
    }

    /// Pieces that are large.
    pub(super) fn large(count: usize, size: usize) -> Self {
        Self { count, size, worth: true }
    }
}

/// Calls `part` with ranges that cover all pieces.
pub(super) fn in_parallel(parallel: &dyn Parallel, cut: Cut, part: &(dyn Fn(Range<usize>) + Sync)) {
    let Cut { count, size, worth } = cut;
    let parts = count.div_ceil(size);
    if parts <= 1 || !worth || parallel.width() == 1 {
        if count > 0 {
            part(0..count);
        }
        return;
    }
    parallel.run(parts, &|index| part(index * size..count.min((index + 1) * size)));
}
