//! Ctrl-C and SIGTERM, for commands that must undo something before they end.

use anyhow::{Context as _, Result, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

/// The signals since this was made. From then on, they do not end the process by themselves.
pub struct Interrupts {
    signals: Mutex<[Signal; 2]>,
}

impl Interrupts {
    /// Waits for signals from now on.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot wait for Ctrl-C");
        let signals = [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
        Ok(Self { signals: Mutex::new(signals) })
    }

    /// Ends with a signal.
    pub async fn recv(&self) {
        let mut signals = self.signals.lock().await;
        let [interrupt, terminate] = &mut *signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    /// Does work; a signal ends it with an error.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            () = self.recv() => Err(anyhow!("interrupted")),
        }
    }
}
