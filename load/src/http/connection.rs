//! One connection: a call after the other.

use std::io;

use super::answer::{Head, Length, chunks};
use super::call::{Answer, Call, Caller, HttpError};
use super::stream::Stream;

/// Room for a usual answer.
const BUFFER: usize = 1024;

/// An open connection.
pub struct Connection {
    stream: Stream,
    /// For requests and answers, one after the other.
    buffer: Vec<u8>,
    stays_open: bool,
}

impl Connection {
    pub fn over(stream: Stream) -> Self {
        Self { stream, buffer: Vec::with_capacity(BUFFER), stays_open: true }
    }

    /// Whether another call can be tried.
    pub fn is_open(&mut self) -> bool {
        self.stays_open && self.stream.is_quiet()
    }

    /// Sends a request and reads the whole answer. `authority` is the header `Host`, and `prefix` begins the path.
    pub async fn call(
        &mut self,
        authority: &str,
        prefix: &str,
        call: &Call,
        caller: Caller<'_>,
    ) -> Result<Answer, HttpError> {
        // Until the answer is whole, the connection is of no use for another call.
        self.stays_open = false;
        self.buffer.clear();
        write(&mut self.buffer, authority, prefix, call, caller);
        self.stream.write(&self.buffer).await?;
        self.buffer.clear();
        let head = self.head().await?;
        let body = self.body(&head).await?;
        // What is left was not asked for.
        self.stays_open = head.stays_open && self.buffer.is_empty();
        Ok(Answer { status: head.status, retry_after: head.retry_after, body })
    }

    /// The head of the answer, which is taken out of the buffer.
    async fn head(&mut self) -> Result<Head, HttpError> {
        loop {
            if !self.buffer.is_empty()
                && let Some(head) = Head::parse(&self.buffer)?
            {
                self.buffer.drain(..head.size);
                if !head.status.is_informational() {
                    return Ok(head);
                }
                continue;
            }
            self.stream.read(&mut self.buffer).await?;
        }
    }

    async fn body(&mut self, head: &Head) -> Result<Vec<u8>, HttpError> {
        match head.length {
            Length::Known(length) => {
                self.buffer.reserve(length.saturating_sub(self.buffer.len()));
                while self.buffer.len() < length {
                    self.stream.read(&mut self.buffer).await?;
                }
                Ok(self.buffer.drain(..length).collect())
            }
            Length::Chunked => loop {
                if let Some((body, size)) = chunks(&self.buffer)? {
                    self.buffer.drain(..size);
                    return Ok(body);
                }
                self.stream.read(&mut self.buffer).await?;
            },
            Length::Open => loop {
                match self.stream.read(&mut self.buffer).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Ok(std::mem::take(&mut self.buffer));
                    }
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }
}

fn write(to: &mut Vec<u8>, authority: &str, prefix: &str, call: &Call, caller: Caller<'_>) {
    let mut add =
        |parts: &[&str]| parts.iter().for_each(|part| to.extend_from_slice(part.as_bytes()));
    let path = if prefix.is_empty() && call.path.is_empty() { "/" } else { call.path.as_str() };
    add(&[call.method.as_str(), " ", prefix, path, " HTTP/1.1\r\nhost: ", authority, "\r\n"]);
    if let Some(token) = caller.token {
        add(&["authorization: Bearer ", token, "\r\n"]);
    }
    if let Some(key) = caller.idempotency_key {
        add(&["idempotency-key: ", key, "\r\n"]);
    }
    match &call.body {
        Some(body) => {
            let length = body.len().to_string();
            add(&["content-type: application/json\r\ncontent-length: ", &length, "\r\n\r\n", body]);
        }
        // Some proxies want a length of every POST.
        None if call.method == http::Method::GET => add(&["\r\n"]),
        None => add(&["content-length: 0\r\n\r\n"]),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection, and the server's end of it.
    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Connection::over(Stream::Plain(client.unwrap())), server.unwrap().0)
    }

    /// The answer to a call when the server sends these pieces, each when the one before was taken.
    async fn answered(
        connection: &mut Connection,
        server: &mut TcpStream,
        pieces: &[&str],
    ) -> (Result<Answer, HttpError>, String) {
        server.set_nodelay(true).unwrap();
        let call = Call::post("/v1/purchases", &serde_json::json!({"quantity": 1}));
        let caller = Caller { token: Some("t"), idempotency_key: Some("k") };
        let serve = async {
            let mut request = vec![0; 1024];
            let size = server.read(&mut request).await.unwrap();
            for piece in pieces {
                server.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            String::from_utf8_lossy(&request[..size]).into_owned()
        };
        tokio::join!(connection.call("shop:8080", "/base", &call, caller), serve)
    }

    #[tokio::test]
    async fn a_connection_serves_one_call_after_the_other() {
        let (mut connection, mut server) = pair().await;
        let ok = [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nab",
            "cde",
        ];
        for _ in 0..2 {
            let (answer, request) = answered(&mut connection, &mut server, &ok).await;
            let answer = answer.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (201, &b"abcde"[..]));
            assert_eq!(
                request,
                "POST /base/v1/purchases HTTP/1.1\r\nhost: shop:8080\r\nauthorization: Bearer t\r\n\
                 idempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"quantity\":1}"
            );
            assert!(connection.is_open());
        }
        let chunked =
            ["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc", "\r\n0\r\n", "\r\n"];
        let (answer, _) = answered(&mut connection, &mut server, &chunked).await;
        assert_eq!(answer.unwrap().body, b"abc");
        assert!(connection.is_open());
        let more = ["HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab"];
        let (answer, _) = answered(&mut connection, &mut server, &more).await;
        assert_eq!(answer.unwrap().body, b"a");
        assert!(!connection.is_open(), "the server sends what nobody asked for");
    }

    #[tokio::test]
    async fn a_connection_that_the_server_ends_is_not_open() {
        let (mut connection, mut server) = pair().await;
        let ok = ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"];
        answered(&mut connection, &mut server, &ok).await.0.unwrap();
        assert!(connection.is_open());
        drop(server);
        // Until the end has arrived.
        let ended = async {
            while connection.is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.unwrap();

        let (mut connection, mut server) = pair().await;
        let close = ["HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"];
        answered(&mut connection, &mut server, &close).await.0.unwrap();
        assert!(!connection.is_open());
    }

    #[tokio::test]
    async fn a_cut_answer_is_none_and_one_without_a_length_ends_with_the_connection() {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
        for (text, whole) in [(cut, false), ("HTTP/1.1 200 OK\r\n\r\nabc", true)] {
            let (mut connection, mut server) = pair().await;
            let serve = async move {
                let mut request = vec![0; 1024];
                let _ = server.read(&mut request).await.unwrap();
                server.write_all(text.as_bytes()).await.unwrap();
            };
            let call = Call::get("");
            let call = connection.call("shop", "", &call, Caller::default());
            let (answer, ()) = tokio::join!(call, serve);
            assert_eq!(answer.map(|answer| answer.body).ok(), whole.then(|| b"abc".to_vec()));
            assert!(!connection.is_open());
        }
    }
}
