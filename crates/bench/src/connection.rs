//! One keep-alive HTTP/1.1 connection that sends rendered bytes and reads answers, and does nothing beyond that.
//!
//! It understands what our servers send: a status line and `Content-Length`. Anything else is an error.

use anyhow::{Context, bail, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A product or an acknowledgement is a fraction of it; more is read by growing.
const BUFFER_BYTES: usize = 4 * 1024;

/// No answer that we ask for is longer.
const MOST_BYTES: usize = 1024 * 1024;

/// How long an answer is waited for. The API itself gives up earlier.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(15);

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer; its body lives in the connection's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES] })
    }

    /// As `exchange`, but an answer that does not come is an error after `limit`.
    ///
    /// # Errors
    /// Also that.
    pub(crate) async fn exchange_within(&mut self, limit: Duration, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        let line = || String::from_utf8_lossy(request).lines().next().unwrap_or_default().to_owned();
        tokio::time::timeout(limit, self.exchange(request))
            .await
            .with_context(|| format!("{} was not answered within {limit:?}", line()))?
    }

    /// Sends a request and reads its answer; waits for as long as that takes, for a timer for each request would be felt.
    ///
    /// # Errors
    /// The connection broke, or the answer is none that we understand.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await.context("sending a request")?;
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.context("reading an answer")?;
            ensure!(read > 0, "the server closed the connection in the middle of an answer");
            filled += read;
            match Head::parse(&self.buffer[..filled])? {
                Some(head) if head.end + head.content_bytes <= filled => break head,
                _ if filled == self.buffer.len() => {
                    ensure!(filled < MOST_BYTES, "an answer is longer than {MOST_BYTES} bytes");
                    self.buffer.resize(2 * filled, 0);
                }
                _ => {}
            }
        };
        Ok(Answer { status: head.status, body: &self.buffer[head.end..head.end + head.content_bytes] })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins.
    end: usize,
    content_bytes: usize,
}

impl Head {
    /// `None` while the head is not complete.
    fn parse(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut content_bytes = 0;
        let mut at = 0;
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = bytes[at..at + length].trim_ascii_end();
            at += length + 1;
            if line.is_empty() {
                let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                let status = status.context("an answer has no status")?;
                return Ok(Some(Self { status, end: at, content_bytes }));
            }
            if let Some((name, value)) = line.split_at_checked(15)
                && name.eq_ignore_ascii_case(b"content-length:")
            {
                let value = std::str::from_utf8(value.trim_ascii()).ok().and_then(|digits| digits.parse().ok());
                content_bytes = value.context("an answer has a Content-Length that is no number")?;
            } else if line.len() > 18 && line[..18].eq_ignore_ascii_case(b"transfer-encoding:") {
                bail!("an answer is chunked, which this client does not read");
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let text = b"HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\nX: y\r\n\r\n{\"accepted\":1}";
        let head = Head::parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.content_bytes), (202, 14));
        assert_eq!(&text[head.end..], b"{\"accepted\":1}");
        for cut in 0..head.end {
            assert_eq!(Head::parse(&text[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().content_bytes, 0);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        // It takes connections, and nobody reads from them.
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut connection = Connection::open(silent.local_addr().unwrap()).await.unwrap();
        let given_up = connection.exchange_within(Duration::from_millis(20), b"GET /v1/products/1 HTTP/1.1\r\n\r\n").await;
        assert_eq!(given_up.unwrap_err().to_string(), "GET /v1/products/1 HTTP/1.1 was not answered within 20ms");
    }
}
