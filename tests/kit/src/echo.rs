//! What the proxy itself adds to a delay.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::proxy::{Link, Proxy};

/// Round trips of one byte through a proxy with this link to a server that only echoes, one after the
/// other: their times, from the shortest to the longest.
///
/// # Errors
/// When a connection fails.
pub async fn raw_round_trips(link: Link, count: usize) -> Result<Vec<Duration>> {
    let proxy = Proxy::start(echo().await?).await?;
    proxy.set(link);
    let mut client = TcpStream::connect(proxy.address()).await?;
    client.set_nodelay(true)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let sent = Instant::now();
        client.write_u8(1).await?;
        client.read_u8().await?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// A server that answers each byte with itself; returns its address.
pub(crate) async fn echo() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = client.set_nodelay(true);
                let (mut read, mut write) = client.split();
                let _ = copy(&mut read, &mut write).await;
            });
        }
    });
    Ok(address)
}
