//! Just enough of HTTP to ask our own programs on this machine whether they are ready.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Whether a GET is answered with 200.
pub(super) fn is_ok(port: u16, path: &str) -> bool {
    get(port, path).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The whole answer to a GET, headers and all.
pub(super) fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
