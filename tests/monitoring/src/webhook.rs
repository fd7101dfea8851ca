//! A receiver of the sale's events, and events that it does not take.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::shop::Shop;
use crate::wait::eventually;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Counts the events for which an attempt failed and others follow.
const NOT_TAKEN: &str = "SELECT count(*) FROM failed_events WHERE dead_at_ms IS NULL";
/// How long an attempt may take on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// The settings of a replica that sends events of these states, separated by commas, to a receiver at this port.
#[must_use]
pub fn webhook_settings(port: u16, states: &str) -> Vec<(&'static str, String)> {
    vec![
        ("EVENTS_WEBHOOK_URL", format!("http://127.0.0.1:{port}/events")),
        ("EVENTS_WEBHOOK_SECRET", SECRET.to_owned()),
        ("EVENTS_WEBHOOK_STATES", states.to_owned()),
    ]
}

/// A payment fails; the first attempt to tell the receiver, whose port is closed, fails too.
///
/// # Errors
/// When the payment cannot be reported, or no attempt fails.
pub async fn event_not_taken(shop: &Shop) -> Result<()> {
    let path = format!("/v1/orders/{}/payment", shop.place("ann", "1").await?);
    let failed = json!({ "result": "failed" });
    let reported = shop.call(("admin", "admin"), "POST", &path, failed).await?;
    ensure!(reported.0 == 200, "{reported:?}");
    eventually("an attempt has failed", SOON, async || {
        let failed = shop.number(NOT_TAKEN).await?;
        ensure!(failed == 1, "{failed} events");
        Ok(())
    })
    .await
}

/// An event that the receiver does not take, as in [`event_not_taken`], is given up.
///
/// # Errors
/// As [`event_not_taken`], or when it is not given up.
pub async fn event_given_up(shop: &Shop) -> Result<()> {
    event_not_taken(shop).await?;
    // As if the first attempt had been long ago.
    shop.sql("UPDATE failed_events SET first_failed_at_ms = 1, retry_at_ms = 1").await?;
    let events = "SELECT count(*) FROM failed_events WHERE dead_at_ms IS NOT NULL";
    eventually("the event is given up", SOON, async || {
        let dead = shop.number(events).await?;
        ensure!(dead == 1, "{dead} events");
        Ok(())
    })
    .await
}

/// The receiver, whose port is open, takes the events that it did not take before and that were not given up.
///
/// # Errors
/// When it does not take them.
pub async fn events_taken(shop: &Shop) -> Result<()> {
    eventually("the events are taken", SOON, async || {
        // An attempt that has just failed may still write when the next one is.
        shop.sql("UPDATE failed_events SET retry_at_ms = 1").await?;
        let left = shop.number(NOT_TAKEN).await?;
        ensure!(left == 0, "{left} events");
        Ok(())
    })
    .await
}

/// Takes webhooks until it is closed.
pub struct Receiver(JoinHandle<()>);

impl Receiver {
    /// Listens at this port.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn open(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(Self(tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // A webhook whose connection fails is sent again.
                let _ = take(connection).await;
            }
        })))
    }

    /// Closes the port.
    pub async fn close(self) {
        self.0.abort();
        // It was aborted, which is an error.
        let _ = self.0.await;
    }
}

/// Reads one request and answers that it is taken.
async fn take(mut connection: TcpStream) -> Result<()> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        let read = connection.read_buf(&mut request).await?;
        ensure!(read > 0, "the request ends early");
    }
    connection.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?;
    Ok(())
}

/// Whether the head and all of the body are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}
