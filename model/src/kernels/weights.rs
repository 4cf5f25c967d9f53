//! Memory of packed weights: large mappings on huge pages, because a step touches all of them once and would spend
//! its time on page tables.

use memmap2::{Advice, MmapMut};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a mapping that several small matrices share; eight huge pages, so that little of the last one is unused.
/// It lives as long as one of them.
const SHARED_BYTES: usize = 16 << 20;
/// Bytes of a matrix that gets a mapping of its own.
const OWN_BYTES_MIN: usize = SHARED_BYTES / 2;
/// What lines begin at: a line of the processor's caches.
const ALIGNMENT: usize = 64;

/// Types of which zeros are a value.
///
/// # Safety
/// All bytes zero must be a valid value, and its alignment at most [`ALIGNMENT`].
pub(super) unsafe trait Zeroed: Copy {}

/// Where the next weights go.
#[derive(Default)]
pub(super) struct WeightMemory {
    shared: Mutex<Option<(Arc<Mapping>, usize)>>,
}

impl fmt::Debug for WeightMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WeightMemory").finish_non_exhaustive()
    }
}

/// Pages from the system, or from the allocator when the system gives none by itself.
enum Mapping {
    Pages(MmapMut),
    Heap(Vec<[u8; ALIGNMENT]>),
}

impl Mapping {
    fn new(bytes: usize) -> Self {
        match MmapMut::map_anon(bytes) {
            Ok(pages) => {
                // Without huge pages it is slower, and as right.
                let _ = pages.advise(Advice::HugePage);
                Self::Pages(pages)
            }
            Err(_) => Self::Heap(vec![[0; ALIGNMENT]; bytes.div_ceil(ALIGNMENT) + 1]),
        }
    }

    /// On a line.
    fn start(&self) -> *mut u8 {
        match self {
            Self::Pages(pages) => pages.as_ptr().cast_mut(),
            Self::Heap(lines) => {
                let start = lines.as_ptr().cast::<u8>();
                start.wrapping_add(start.align_offset(ALIGNMENT)).cast_mut()
            }
        }
    }
}

impl WeightMemory {
    /// `count` zeros.
    pub(super) fn zeros<T: Zeroed>(&self, count: usize) -> Lines<T> {
        let bytes = (count * size_of::<T>()).next_multiple_of(ALIGNMENT);
        let (mapping, first) = self.place(bytes);
        let start = mapping.start().wrapping_add(first).cast::<T>();
        Lines { mapping, start, count, values: PhantomData }
    }

    fn place(&self, bytes: usize) -> (Arc<Mapping>, usize) {
        if bytes >= OWN_BYTES_MIN {
            return (Arc::new(Mapping::new(bytes)), 0);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *shared {
            Some((mapping, used)) if *used + bytes <= SHARED_BYTES => {
                let first = *used;
                *used += bytes;
                (Arc::clone(mapping), first)
            }
            full => {
                let mapping = Arc::new(Mapping::new(SHARED_BYTES));
                *full = Some((Arc::clone(&mapping), bytes));
                (mapping, 0)
            }
        }
    }
}

/// Weights in such memory; nobody else has these bytes.
pub(super) struct Lines<T> {
    mapping: Arc<Mapping>,
    start: *mut T,
    count: usize,
    values: PhantomData<T>,
}

// SAFETY: it owns its bytes of the mapping, which stays where it is.
unsafe impl<T: Send> Send for Lines<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Lines<T> {}

impl<T> Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `count` values from `start` on are inside the mapping, were zeros at first, and are ours.
        unsafe { std::slice::from_raw_parts(self.start, self.count) }
    }
}

impl<T> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.count) }
    }
}

impl<T> fmt::Debug for Lines<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &*self.mapping {
            Mapping::Pages(_) => "pages",
            Mapping::Heap(_) => "heap",
        };
        formatter.debug_struct("Lines").field("count", &self.count).field("in", &kind).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{OWN_BYTES_MIN, SHARED_BYTES, WeightMemory, Zeroed};

    // SAFETY: any bits are a value.
    unsafe impl Zeroed for u64 {}

    #[test]
    fn pieces_are_zero_aligned_and_apart() {
        let memory = WeightMemory::default();
        let counts =
            [0, 1, 7, 9, 100_000, OWN_BYTES_MIN / 8, SHARED_BYTES / 8 / 3, 300_000, 300_000];
        let mut pieces = Vec::new();
        for (tag, &count) in (1_u64..).zip(&counts) {
            let mut piece = memory.zeros::<u64>(count);
            assert!(piece.iter().all(|value| *value == 0));
            assert_eq!(piece.as_ptr().align_offset(64), 0);
            piece.fill(tag);
            pieces.push((tag, count, piece));
        }
        drop(memory);
        for (tag, count, piece) in &pieces {
            assert_eq!(piece.len(), *count);
            assert!(piece.iter().all(|value| value == tag));
        }
    }
}
