//! One slice that several parts of a piece of work write at the same time.

use std::marker::PhantomData;
use std::ops::Range;

/// Hands out ranges of a slice; the caller sees to it that they do not overlap.
#[derive(Debug)]
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    length: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable borrow of a slice, cut in parts that do not overlap, see `slice`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), owner: PhantomData }
    }

    /// A part, to write.
    ///
    /// # Safety
    /// No other part that is alive overlaps it.
    #[expect(clippy::mut_from_ref, reason = "that is what the type is for; see Safety")]
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "a part inside the slice");
        // SAFETY: inside the slice, as asserted; nobody else has it, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
