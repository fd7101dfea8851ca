//! Waiting for a condition.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(100);

/// Asks until the answer is no error.
///
/// # Errors
/// The last error, after the deadline.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    ask: impl AsyncFn() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("not within {within:?}: {what}"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
