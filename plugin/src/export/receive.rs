//! Receives the output of a process in a pod, and decides whether it is whole. Takes no client.

use std::io::Write;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Bytes of messages that are kept: the end counts.
const MAX_MESSAGES: usize = 16 << 10;

/// What the tool says that it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Received {
    /// Lines of orders.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Copies stdout to `out`. It is whole if the process ended well and as many bytes came as it wrote.
pub async fn receive(
    stdout: impl AsyncRead + Unpin,
    stderr: impl AsyncRead + Unpin,
    status: impl Future<Output = Option<Status>>,
    out: &mut impl Write,
) -> Result<Received> {
    let (copied, messages, status) = tokio::join!(copy(stdout, out), messages(stderr), status);
    let copied = copied?;
    let Some(status) = status else {
        bail!("the stream was cut after {copied} bytes: the export is incomplete");
    };
    let said = messages.trim();
    if status.status.as_deref() != Some("Success") {
        let message = status.message.unwrap_or_default();
        bail!("the export failed, and {copied} bytes of it are incomplete: {said} ({message})");
    }
    let last = said.lines().next_back().unwrap_or_default();
    let written: Received = serde_json::from_str(last)
        .with_context(|| format!("the export has no count, so it may be incomplete: {said}"))?;
    if written.bytes != copied {
        bail!(
            "the export is incomplete: {copied} bytes came of {}, with {} lines",
            written.bytes,
            written.rows
        );
    }
    Ok(written)
}

async fn copy(mut stdout: impl AsyncRead + Unpin, out: &mut impl Write) -> Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let read = stdout.read(&mut chunk).await.context("the stream was cut")?;
        if read == 0 {
            out.flush().context("cannot write the orders")?;
            return Ok(copied);
        }
        out.write_all(&chunk[..read]).context("cannot write the orders")?;
        copied += read as u64;
    }
}

/// The end of what the process said. All of it is read, because the process would wait otherwise.
async fn messages(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 1024];
    while let Ok(read) = stderr.read(&mut chunk).await {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&chunk[..read]);
        let superfluous = kept.len().saturating_sub(MAX_MESSAGES);
        kept.drain(..superfluous);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn status(status: &str) -> Status {
        let message = Some("command terminated with exit code 2".to_owned());
        Status { status: Some(status.to_owned()), message, ..Status::default() }
    }

    async fn received(
        stdout: &[u8],
        stderr: &str,
        status: Option<Status>,
    ) -> Result<(Received, Vec<u8>), String> {
        let mut out = Vec::new();
        let result = receive(stdout, stderr.as_bytes(), ready(status), &mut out).await;
        result.map(|received| (received, out)).map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn a_whole_export_is_copied() {
        let stderr = "waiting: refused\n{\"rows\":2,\"bytes\":4}\n";
        let (counted, out) = received(b"a\nb\n", stderr, Some(status("Success"))).await.unwrap();
        assert_eq!((counted, out), (Received { rows: 2, bytes: 4 }, b"a\nb\n".to_vec()));
    }

    #[tokio::test]
    async fn a_shorter_one_is_an_error() {
        let count = "{\"rows\":2,\"bytes\":4}\n";
        let cases = [
            (
                received(b"a\n", count, Some(status("Success"))).await,
                "2 bytes came of 4, with 2 lines",
            ),
            (received(b"a\n", "", Some(status("Success"))).await, "has no count"),
            (received(b"a\nb\n", count, None).await, "the stream was cut after 4 bytes"),
            (
                received(b"a\n", "error: no database", Some(status("Failure"))).await,
                "error: no database",
            ),
        ];
        for (result, expected) in cases {
            let error = result.unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[tokio::test]
    async fn many_messages_do_not_hold_the_process_up() {
        let many = format!("{}{{\"rows\":0,\"bytes\":0}}", "waiting\n".repeat(10_000));
        received(b"", &many, Some(status("Success"))).await.unwrap();
    }
}
