//! Answers to connections that are not served.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Time for the client to read the answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// `HTTP_MAX_CONNECTIONS` are open.
    Full,
    /// HTTP on a port that speaks TLS.
    PlainHttp,
}

impl Rejection {
    /// Status line, further headers, and body.
    const fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Full => (
                "503 Service Unavailable",
                "retry-after: 1\r\n",
                r#"{"type":"urn:flashsale:problem:overloaded","title":"Service Unavailable","status":503,"detail":"too many connections are open","code":"overloaded"}"#,
            ),
            Self::PlainHttp => (
                "400 Bad Request",
                "",
                r#"{"type":"urn:flashsale:problem:https_required","title":"Bad Request","status":400,"detail":"this port speaks TLS: use https","code":"https_required"}"#,
            ),
        }
    }

    /// Sends the reason, and reads until the client closes: a close with unread bytes would reset the connection and
    /// discard the answer. Gives up after [`TIMEOUT`].
    pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        // A client that is gone or does not read needs no answer.
        let _ = timeout(TIMEOUT, self.send_and_drain(stream)).await;
    }

    async fn send_and_drain<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        mut stream: S,
    ) -> io::Result<()> {
        let (status, headers, body) = self.parts();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\n\
             {headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut discarded = [0; 1024];
        while stream.read(&mut discarded).await? > 0 {}
        Ok(())
    }
}
