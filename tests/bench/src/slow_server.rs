//! A sale that answers every purchase with `sold_out` after a time of its own choice. As much of HTTP/1.1 as the load
//! job speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// When a purchase is answered: counted from its arrival, by its number in the order of arrival and by the time since
/// the first one came.
pub type Schedule = fn(u32, Duration) -> Duration;

/// What all connections share.
struct Shared {
    schedule: Schedule,
    arrived: AtomicU32,
    first: OnceCell<Instant>,
}

/// Serves until it is dropped.
pub struct SlowServer {
    pub port: u16,
    _task: JoinSet<()>,
}

impl SlowServer {
    pub async fn start(schedule: Schedule) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared =
            Arc::new(Shared { schedule, arrived: AtomicU32::new(0), first: OnceCell::new() });
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // A driver may close a connection whenever it likes.
                    let _ = serve(stream, &shared).await;
                });
            }
        });
        Ok(Self { port, _task: task })
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(4096);
    loop {
        let request = loop {
            if let Some(request) = take(&mut received)? {
                break request;
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let arrived = Instant::now();
        let answer = match request.as_str() {
            path if path.starts_with("POST /v1/purchases ") => {
                let first = *shared.first.get_or_init(async || arrived).await;
                let number = shared.arrived.fetch_add(1, Ordering::Relaxed);
                let delay = (shared.schedule)(number, arrived.saturating_duration_since(first));
                sleep_until(arrived + delay).await;
                json("409 Conflict", "{\"code\":\"sold_out\"}")
            }
            path if path.starts_with("GET /metrics ") => text("idle 1\n"),
            _ => json("200 OK", "{\"product_id\":\"1\",\"remaining\":0}"),
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// The first line of a whole request, which is removed.
fn take(received: &mut Vec<u8>) -> Result<Option<String>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..end])?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let whole = end + 4 + length.transpose()?.unwrap_or(0);
    if received.len() < whole {
        return Ok(None);
    }
    let first = head.lines().next().context("an empty request")?.to_owned();
    received.drain(..whole);
    Ok(Some(first))
}

fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn text(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_with_its_body() {
        let mut received = b"POST /v1/purchases HTTP/1.1\r\ncontent-length: 2\r\n\r\n{".to_vec();
        assert!(take(&mut received).unwrap().is_none());
        received.extend(b"}GET");
        assert_eq!(take(&mut received).unwrap().unwrap(), "POST /v1/purchases HTTP/1.1");
        assert_eq!(received, b"GET");
    }
}
