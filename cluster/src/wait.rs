//! Waiting for something to become true, with a deadline.

use std::time::{Duration, Instant};

/// Between two looks. Short against what is waited for (hundreds of milliseconds), long against one look's cost.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks until `look` finds something or fails; nothing when `limit` has passed.
///
/// # Errors
/// What `look` fails with.
pub fn until<T, E>(
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if started.elapsed() > limit {
            return Ok(None);
        }
        std::thread::sleep(INTERVAL);
    }
}
