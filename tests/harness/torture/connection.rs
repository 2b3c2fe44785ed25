//! A keep-alive HTTP/1.1 connection that sends text and reads answers with a `Content-Length`, and does nothing beyond
//! that: what the clients cost, the servers on the same cores do not get.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any stop, so that a client of a process that is stopped hears what became of its call.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two products are a kilobyte; no answer to us is longer than this.
const MOST_BYTES: usize = 64 * 1024;

/// How a request ended.
pub(super) enum Answer<'a> {
    Whole {
        status: u16,
        /// `Cache-Status` ends with `hit`.
        hit: bool,
        /// It was given before, under the same key.
        replayed: bool,
        body: &'a [u8],
    },
    /// It never left us.
    Unsent,
    /// It may have arrived.
    Broken,
}

/// Connects at the first request, and again after one that broke.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: vec![0; MOST_BYTES] }
    }

    pub(super) async fn exchange(&mut self, request: &str) -> Answer<'_> {
        let stream = match self.stream.take() {
            Some(stream) => Ok(stream),
            None => TcpStream::connect(self.address).await,
        };
        let Ok(mut stream) = stream else { return Answer::Unsent };
        let exchanged = tokio::time::timeout(PATIENCE, exchange(&mut stream, request, &mut self.buffer)).await;
        let Some(head) = exchanged.ok().flatten() else { return Answer::Broken };
        self.stream = Some(stream);
        let body = &self.buffer[head.end..head.end + head.content_bytes];
        Answer::Whole { status: head.status, hit: head.hit, replayed: head.replayed, body }
    }
}

/// `None`: the connection broke.
async fn exchange(stream: &mut TcpStream, request: &str, buffer: &mut [u8]) -> Option<Head> {
    // What is written at once needs no delay for more.
    let _ = stream.set_nodelay(true);
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|read| *read > 0)?;
        filled += read;
        match Head::of(&buffer[..filled]) {
            Some(head) if head.end + head.content_bytes <= filled => return Some(head),
            _ => assert!(filled < buffer.len(), "an answer is longer than {MOST_BYTES} bytes"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    hit: bool,
    replayed: bool,
    /// Where the body begins.
    end: usize,
    content_bytes: usize,
}

impl Head {
    /// `None` while it is not complete.
    fn of(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..end]).expect("our headers are ASCII");
        let (status, headers) = text.split_once("\r\n").expect("a head has lines");
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        let (mut hit, mut replayed, mut content_bytes) = (false, false, 0);
        for (name, value) in headers.lines().filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("content-length") {
                content_bytes = value.parse().expect("a length is a number");
            } else if name.eq_ignore_ascii_case("cache-status") {
                hit = value.ends_with("hit");
            } else if name.eq_ignore_ascii_case("idempotent-replayed") {
                replayed = value == "true";
            }
        }
        Some(Self { status, hit, replayed, end, content_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nCache-Status: inventory; hit\r\n\r\n{}";
        let head = Head { status: 200, hit: true, replayed: false, end: text.len() - 2, content_bytes: 2 };
        assert_eq!(Head::of(text), Some(head));
        for cut in 0..text.len() - 2 {
            assert_eq!(Head::of(&text[..cut]), None, "{cut}");
        }
        let missed = Head::of(b"HTTP/1.1 503 Service Unavailable\r\ncache-status: inventory; fwd=bypass\r\n\r\n").unwrap();
        assert_eq!((missed.status, missed.hit, missed.content_bytes), (503, false, 0));
        assert!(Head::of(b"HTTP/1.1 201 Created\r\nidempotent-replayed: true\r\n\r\n").unwrap().replayed);
    }
}
