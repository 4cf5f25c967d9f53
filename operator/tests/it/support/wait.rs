//! Waiting for a condition, with a deadline that fails the test.

use std::time::Duration;
use tokio::time::Instant;

/// Starts of processes and control planes on a busy machine take seconds; more than this is a fault.
pub const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(50);

/// The first `Ok` of `look`; panics with its last `Err` when patience ends.
pub async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => panic!("{what}: {seen}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
