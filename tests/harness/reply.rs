//! What an API answers, and how tests ask it.

use crate::Program;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Above every time limit of the API, so that a request without an answer fails its test.
const RAW_LIMIT: Duration = Duration::from_secs(20);

/// An answer that has arrived whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Path of the request, without its query.
    path: String,
    /// Names in lower case, in the order in which they were sent.
    headers: Vec<(String, String)>,
    pub text: String,
}

impl Reply {
    /// Sends a request and waits for all of its answer.
    pub async fn to(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("the API answers");
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter();
        Self {
            status: response.status().as_u16(),
            path: response.url().path().to_owned(),
            headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
            text: response.text().await.expect("the answer arrives whole"),
        }
    }

    /// Sends bytes as they are to `url` and then nothing more; `None` if the connection is closed without an answer.
    pub async fn to_bytes(url: &str, bytes: &[u8]) -> Option<Self> {
        Self::to_stream(url, bytes, true).await
    }

    /// The same, but the server may go on waiting for more.
    pub async fn to_bytes_held_open(url: &str, bytes: &[u8]) -> Option<Self> {
        Self::to_stream(url, bytes, false).await
    }

    async fn to_stream(url: &str, bytes: &[u8], end: bool) -> Option<Self> {
        let address = url.strip_prefix("http://").expect("an http address");
        let mut stream = TcpStream::connect(address).await.expect("the API listens");
        let received = async {
            // A server that refuses a long request may close before it has read all of it.
            let _ = stream.write_all(bytes).await;
            if end {
                let _ = stream.shutdown().await;
            }
            let mut received = Vec::new();
            let _ = stream.read_to_end(&mut received).await;
            received
        };
        let received = tokio::time::timeout(RAW_LIMIT, received).await.expect("the connection is closed in time");
        let target = bytes.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&received), &String::from_utf8_lossy(target))
    }

    fn parse(received: &str, target: &str) -> Option<Self> {
        let (head, text) = received.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        Some(Self {
            status,
            path: target.split('?').next().unwrap_or_default().to_owned(),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect(),
            text: text.to_owned(),
        })
    }

    /// A header's value; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks the form that every refusal has, and that it is this one; returns the document.
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["type"], json!(format!("/problems/{slug}")), "{self:?}");
        assert_eq!(problem["status"], json!(status), "{self:?}");
        assert_eq!(problem["instance"], json!(self.path), "{self:?}");
        assert_eq!(problem["request_id"], json!(self.header("x-request-id")), "{self:?}");
        for text in ["title", "detail", "request_id"] {
            assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "{text} in {self:?}");
        }
        problem
    }
}

/// The JSON pointers of the faults that a problem lists.
#[must_use]
pub fn pointers(problem: &Value) -> Vec<&str> {
    let faults = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    faults.iter().filter_map(|fault| fault["pointer"].as_str()).collect()
}

impl Program {
    /// A request to the public listener.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// What its requests are made with, for those that are like no other.
    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::to(self.request("GET", path)).await
    }

    /// Sends a body as `application/json`.
    pub async fn send(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.request(method, path).header("content-type", "application/json");
        Reply::to(request.body(body)).await
    }

    /// A GET of the ops listener.
    pub async fn get_ops(&self, path: &str) -> Reply {
        Reply::to(self.client.get(format!("{}{path}", self.ops))).await
    }
}
