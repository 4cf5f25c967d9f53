//! Waiting for conditions, with deadlines.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks: short beside anything we wait for, long enough to leave the processor to what is tested.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Looks again and again until `look` finds something, and returns it.
///
/// # Errors
/// When the deadline passes; the message has the last thing that `look` said instead.
pub async fn until<T, F>(what: &str, deadline: Duration, mut look: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let end = Instant::now() + deadline;
    loop {
        let error = match look().await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if Instant::now() >= end {
            bail!("waited {} s for {what}; last seen: {error:#}", deadline.as_secs());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
