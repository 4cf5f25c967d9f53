//! Activations' memory, used again: a step needs the same sizes as the one before, and fresh pages cost more than the
//! arithmetic on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that are kept for the next tensors. A step of R1 with 512 rows keeps about 300 MB alive at once; what
/// is beyond goes back to the system.
const KEPT_BYTES_MAX: usize = 512 << 20;
/// Vectors that are kept, so that looking for one stays cheap. A layer has about twenty tensors alive.
const KEPT_COUNT_MAX: usize = 64;
/// Below this the allocator is quick by itself.
const KEPT_LENGTH_MIN: usize = 1024;

/// Vectors for the next tensors; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    vectors: Vec<Vec<f32>>,
    bytes: usize,
}

impl Buffers {
    /// A vector of `length` values, whatever they are.
    pub(crate) fn take(&self, length: usize) -> Vec<f32> {
        let mut values = self.kept().take(length).unwrap_or_default();
        values.resize(length, 0.0);
        values
    }

    /// Keeps a vector for [`Self::take`].
    pub(crate) fn give(&self, values: Vec<f32>) {
        if values.len() >= KEPT_LENGTH_MIN {
            self.kept().give(values);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The smallest that is large enough and not far too large.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        if length < KEPT_LENGTH_MIN {
            return None;
        }
        let fitting =
            self.vectors.iter().enumerate().filter(|(_, vector)| {
                vector.capacity() >= length && vector.capacity() / 2 <= length
            });
        let (index, _) = fitting.min_by_key(|(_, vector)| vector.capacity())?;
        let vector = self.vectors.swap_remove(index);
        self.bytes -= vector.capacity() * size_of::<f32>();
        Some(vector)
    }

    fn give(&mut self, vector: Vec<f32>) {
        let bytes = vector.capacity() * size_of::<f32>();
        if self.vectors.len() < KEPT_COUNT_MAX && self.bytes + bytes <= KEPT_BYTES_MAX {
            self.bytes += bytes;
            self.vectors.push(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffers, KEPT_BYTES_MAX, Kept};

    #[test]
    fn a_vector_comes_back_when_it_fits() {
        let buffers = Buffers::default();
        let first = buffers.take(5000);
        let place = first.as_ptr();
        buffers.give(first);
        let second = buffers.take(4000);
        assert_eq!((second.len(), second.as_ptr()), (4000, place));
        buffers.give(second);
        // Far too large for this one.
        let small = buffers.take(1500);
        assert_ne!(small.as_ptr(), place);
        let again = buffers.take(4000);
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let mut kept = Kept { vectors: Vec::new(), bytes: KEPT_BYTES_MAX - 4 * 4096 };
        kept.give(vec![0.0; 4096]);
        kept.give(vec![0.0; 4096]);
        assert_eq!((kept.vectors.len(), kept.bytes), (1, KEPT_BYTES_MAX));
    }
}
