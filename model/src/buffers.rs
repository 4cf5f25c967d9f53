//! Activations' memory, used again: a step needs the same sizes as the one before, and fresh pages cost more than the
//! arithmetic on them.

use std::cell::RefCell;

/// Bytes that a thread keeps for its next tensors. A step of R1 with 512 rows keeps about 300 MB alive at once; what
/// is beyond goes back to the system.
const KEPT_BYTES_MAX: usize = 512 << 20;
/// Vectors that a thread keeps, so that looking for one stays cheap. A layer has about twenty tensors alive.
const KEPT_COUNT_MAX: usize = 64;
/// Below this the allocator is quick by itself.
const KEPT_LENGTH_MIN: usize = 1024;

#[derive(Debug, Default)]
struct Kept {
    vectors: Vec<Vec<f32>>,
    bytes: usize,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// A vector of `length` values, whatever they are.
pub(crate) fn take(length: usize) -> Vec<f32> {
    let kept = KEPT.try_with(|kept| kept.borrow_mut().take(length)).ok().flatten();
    let mut values = kept.unwrap_or_default();
    values.resize(length, 0.0);
    values
}

/// Keeps a vector for [`take`].
pub(crate) fn give(values: Vec<f32>) {
    if values.len() >= KEPT_LENGTH_MIN {
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| kept.borrow_mut().give(values));
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
    use super::{KEPT_BYTES_MAX, Kept, give, take};

    #[test]
    fn a_vector_comes_back_when_it_fits() {
        let first = take(5000);
        let place = first.as_ptr();
        give(first);
        let second = take(4000);
        assert_eq!((second.len(), second.as_ptr()), (4000, place));
        give(second);
        // Far too large for this one.
        let small = take(1500);
        assert_ne!(small.as_ptr(), place);
        let again = take(4000);
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
