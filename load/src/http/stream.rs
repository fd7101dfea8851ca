//! Bytes over TCP or TLS.

use std::io;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connected socket.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Adds what has arrived; an error at the end of the stream.
    pub async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let count = match self {
            Self::Plain(stream) => stream.read_buf(into).await?,
            Self::Tls(stream) => stream.read_buf(into).await?,
        };
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Whether nothing has come that nobody asked for, such as the end of the stream.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let arrived = match self {
            Self::Plain(stream) => stream.read(&mut byte).now_or_never(),
            Self::Tls(stream) => stream.read(&mut byte).now_or_never(),
        };
        arrived.is_none()
    }
}
