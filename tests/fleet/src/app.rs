//! Answers as the replicas of every sale: nothing is sold.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::names::Name;

/// The address of all replicas, and the port of their reports.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 90, 92, 1);
const PORT: u16 = 9090;
const REPORT: &str = r#"{"database":{"id":"2026-11-27T00:00:00Z"},"products":[{"id":"1","stock":100,"sold":0,"remaining":100}]}"#;

/// Starts to answer.
pub async fn start() -> Result<()> {
    let listener = TcpListener::bind((ADDRESS, PORT)).await;
    let listener = listener.with_context(|| format!("cannot listen on {ADDRESS}:{PORT}"))?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection));
        }
    });
    Ok(())
}

/// The names under which the operator finds the replicas, as in `/etc/hosts`.
pub fn hosts(names: &[Name]) -> String {
    let host = |Name { namespace, name }: &Name| format!("{ADDRESS} {name}-pods.{namespace}.svc\n");
    let own = "127.0.0.1 localhost\n".to_owned();
    std::iter::once(own).chain(names.iter().map(host)).collect()
}

/// Answers each request of a connection; none has a body.
async fn answer(mut connection: TcpStream) {
    let (mut received, mut buffer) = (Vec::new(), [0; 2048]);
    while let Ok(read @ 1..) = connection.read(&mut buffer).await {
        received.extend_from_slice(&buffer[..read]);
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            let length = REPORT.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{REPORT}"
            );
            if connection.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
