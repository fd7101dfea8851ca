//! The pause after clients proposed the same tickets at the same moment.

use std::time::Duration;

use tokio::time::sleep;

/// The number of retries without a pause.
const IMMEDIATE_RETRIES: u32 = 3;
/// The upper limit of the random pause before each further retry.
const MAX_PAUSE: Duration = Duration::from_millis(2);

/// Counts the retries of one caller.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    retries: u32,
}

impl Backoff {
    /// Waits before the next retry. The first retries need no pause: the replies have raised the next
    /// proposal.
    pub(crate) async fn pause(&mut self) {
        self.retries += 1;
        if self.retries > IMMEDIATE_RETRIES {
            sleep(MAX_PAUSE.mul_f64(rand::random_range(0.1..1.0))).await;
        }
    }
}
