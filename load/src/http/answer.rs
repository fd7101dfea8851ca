//! Reads a response out of bytes. Takes no socket.

use std::time::Duration;

use http::StatusCode;
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};

use super::call::HttpError;

const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
const MOST_HEADERS: usize = 64;
/// Of a head, and of a body.
const MOST_BYTES: usize = 64 << 20;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Known(usize),
    Chunked,
    /// The end of the connection.
    Open,
}

/// All but the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head.
    pub size: usize,
    pub status: StatusCode,
    pub retry_after: Duration,
    pub length: Length,
    /// Whether another call may follow on this connection.
    pub stays_open: bool,
}

impl Head {
    /// The head at the beginning of these bytes; `None`: it is not whole yet.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HttpError> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut response = Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|error| malformed(&error.to_string()))?;
        let Status::Complete(size) = parsed else {
            return if bytes.len() > MOST_BYTES {
                Err(malformed("an endless head"))
            } else {
                Ok(None)
            };
        };
        let status = StatusCode::from_u16(response.code.unwrap_or_default());
        let status = status.map_err(|_| malformed("no status"))?;
        let mut head = Self {
            size,
            status,
            retry_after: Duration::ZERO,
            length: Length::Open,
            stays_open: response.version == Some(1),
        };
        for header in response.headers {
            let value = str::from_utf8(header.value).unwrap_or_default().trim();
            head.header(header.name, value)?;
        }
        if status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            head.length = Length::Known(0);
        }
        head.stays_open &= head.length != Length::Open;
        Ok(Some(head))
    }

    fn header(&mut self, name: &str, value: &str) -> Result<(), HttpError> {
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().ok().filter(|length| *length <= MOST_BYTES);
            let length = length.ok_or_else(|| malformed(&format!("content-length {value:?}")))?;
            // Chunks go before a length.
            if self.length != Length::Chunked {
                self.length = Length::Known(length);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(malformed(&format!("transfer-encoding {value:?}")));
            }
            self.length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            let mut options = value.split(',').map(str::trim);
            self.stays_open &= !options.any(|option| option.eq_ignore_ascii_case("close"));
        } else if name.eq_ignore_ascii_case("retry-after") {
            let seconds = value.parse().unwrap_or(0);
            self.retry_after = Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER);
        }
        Ok(())
    }
}

/// The body in chunks at the beginning of these bytes, and their number; `None`: it is not whole yet.
pub fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
    if bytes.len() > MOST_BYTES {
        return Err(malformed("an endless body"));
    }
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let size =
            parse_chunk_size(&bytes[at..]).map_err(|_| malformed("a chunk without a size"))?;
        let Status::Complete((start, size)) = size else { return Ok(None) };
        let size = usize::try_from(size).ok().filter(|size| *size <= MOST_BYTES);
        let size = size.ok_or_else(|| malformed("an endless chunk"))?;
        at += start;
        if size == 0 {
            return Ok(trailers(&bytes[at..]).map(|end| (body, at + end)));
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if &chunk[size..] != b"\r\n" {
            return Err(malformed("a chunk of another size"));
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
}

/// Bytes of the headers after the last chunk, with the empty line.
fn trailers(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4)
}

fn malformed(problem: &str) -> HttpError {
    HttpError::Malformed(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_head_says_how_long_the_body_is_and_whether_the_connection_stays() {
        let text = "HTTP/1.1 409 Conflict\r\ncontent-type: x\r\nContent-Length: 7\r\nretry-after: 2\r\n\r\n";
        let conflict = head(&format!("{text}1234567"));
        assert_eq!((conflict.size, conflict.status.as_u16()), (text.len(), 409));
        assert_eq!((conflict.length, conflict.stays_open), (Length::Known(7), true));
        assert_eq!(conflict.retry_after, Duration::from_secs(2));
        for end in 0..text.len() {
            assert_eq!(Head::parse(&text.as_bytes()[..end]).unwrap(), None, "{end}");
        }
        let ends = |headers: &str| {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"));
            (head.length, head.stays_open)
        };
        assert_eq!(ends(""), (Length::Open, false));
        assert_eq!(
            ends("connection: a, Close\r\ncontent-length: 1\r\n"),
            (Length::Known(1), false)
        );
        assert_eq!(ends("transfer-encoding: chunked\r\n"), (Length::Chunked, true));
        assert_eq!(head("HTTP/1.1 204 No Content\r\n\r\n").length, Length::Known(0));
        assert!(!head("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n").stays_open);
        assert_eq!(
            head("HTTP/1.1 429 Slow\r\nretry-after: 9999\r\n\r\n").retry_after.as_secs(),
            30
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for wrong in [
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        ] {
            assert!(Head::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for wrong in ["x\r\n", "1\r\nab\r\n0\r\n\r\n", "ffffffffff\r\n"] {
            assert!(chunks(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn chunks_are_put_together() {
        let text = "4\r\nWiki\r\n6;x=y\r\npedia \r\n0\r\n\r\nrest";
        let (body, size) = chunks(text.as_bytes()).unwrap().unwrap();
        assert_eq!((body.as_slice(), &text[size..]), (&b"Wikipedia "[..], "rest"));
        let with_trailer = text.replace("0\r\n\r\n", "0\r\na: b\r\n\r\n");
        let (_, size) = chunks(with_trailer.as_bytes()).unwrap().unwrap();
        assert_eq!(&with_trailer[size..], "rest");
        for end in 0..text.len() - "rest".len() {
            assert_eq!(chunks(&text.as_bytes()[..end]).unwrap(), None, "{end}");
        }
    }
}
