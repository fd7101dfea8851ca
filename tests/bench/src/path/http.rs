//! As much of HTTP/1.1 as it takes to ask the app one thing after the other on one connection.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A keep-alive connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// When the same may be asked again.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: String,
}

impl Connection {
    pub(super) async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        Self::over(stream, 4096)
    }

    /// One of a crowd: from an address of its own, with little memory. Its own port is free as soon as it is dropped.
    pub(super) async fn open_from(address: Ipv4Addr, port: u16) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        stream.set_zero_linger()?;
        Self::over(stream, 1024)
    }

    fn over(stream: TcpStream, room: usize) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(room) })
    }

    /// Sends these bytes and waits for the answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if let Some(answer) = parse(&self.received)? {
                return Ok(answer);
            }
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the app closed the connection");
        }
    }
}

/// A purchase of one unit.
pub(super) fn purchase(product: &str, token: &str, key: &str) -> Vec<u8> {
    let body = format!("{{\"product_id\":\"{product}\",\"quantity\":1}}");
    request("POST /v1/purchases", token, key, &body)
}

/// One unit of each of these, all or nothing, under the lock of this name.
pub(super) fn take(lock: &str, products: &[String], token: &str, key: &str) -> Vec<u8> {
    let order = |product: &String| format!("{{\"product\":\"{product}\",\"quantity\":1}}");
    let orders: Vec<String> = products.iter().map(order).collect();
    let body = format!("{{\"orders\":[{}]}}", orders.join(","));
    request(&format!("PATCH /v1/stocks/locks/{lock}"), token, key, &body)
}

/// The end of an order by its buyer.
pub(super) fn cancel(order: &str, token: &str) -> Vec<u8> {
    request(&format!("POST /v1/orders/{order}/cancel"), token, "", "{}")
}

fn request(what: &str, token: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "{what} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nIdempotency-Key: {key}\r\n\r\n\
         {body}",
        body.len()
    )
    .into_bytes()
}

/// The route that does nothing else than check who asks.
pub(super) fn me(token: &str) -> Vec<u8> {
    format!("GET /v1/auth/me HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

/// The body of an answer 200 over a connection of its own.
pub(super) async fn get(port: u16, path: &str) -> Result<String> {
    let mut connection = Connection::open(port).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let Answer { status, body, .. } = connection.ask(request.as_bytes()).await?;
    ensure!(status == 200, "{path} was answered with {status}: {body}");
    Ok(body)
}

/// The answer, once all of it has come.
fn parse(received: &[u8]) -> Result<Option<Answer>> {
    let text = String::from_utf8_lossy(received);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?;
    let header = |wanted: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let length = header("content-length").context("the answer does not say its length")?;
    if body.len() < length.parse::<usize>()? {
        return Ok(None);
    }
    let retry_after = match header("retry-after") {
        Some(seconds) => Some(Duration::from_secs(seconds.parse()?)),
        None => None,
    };
    Ok(Some(Answer { status: status.parse()?, retry_after, body: body.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let all = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(&all[..all.len() - 1]).unwrap(), None);
        let answer = Answer { status: 201, retry_after: None, body: "{}".to_owned() };
        assert_eq!(parse(all).unwrap(), Some(answer));
        let refused = b"HTTP/1.1 503 Busy\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n";
        let pause = parse(refused).unwrap().unwrap().retry_after;
        assert_eq!(pause, Some(Duration::from_secs(2)));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
