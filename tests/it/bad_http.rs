//! Bad input below JSON: bodies over their limit, requests that end early, bytes that are no HTTP.

use crate::bad_input::{JSON, WITH_BODY, state, stocked};
use harness::Reply;

/// The limits of a body, bytes.
const LIMIT: usize = 1024 * 1024;
const BEACON_LIMIT: usize = 64 * 1024;

#[tokio::test]
async fn a_body_over_its_limit_is_refused_whether_or_not_its_length_is_announced() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    for (method, path) in WITH_BODY {
        let limit = if path.ends_with("views") { BEACON_LIMIT } else { LIMIT };
        // White space around JSON is JSON: what fits is read, and refused for what it says.
        let body = |length: usize| format!("{{\"x\":1}}{}", " ".repeat(length - 7));
        api.send(method, path, body(limit)).await.problem(422, "validation-failed");
        api.send(method, path, body(limit + 1)).await.problem(413, "body-too-large");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let chunked = format!("{head}{:x}\r\n{}\r\n0\r\n\r\n", limit + 1, body(limit + 1));
        let refused = Reply::to_bytes(&api.url, chunked.as_bytes()).await.expect("an answer");
        refused.problem(413, "body-too-large");
    }
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn half_a_request_changes_nothing() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    let price = r#"{"amount":"7","currency":"GBP"}"#;
    for (method, path) in WITH_BODY {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\n");
        for rest in [
            format!("content-length: {}\r\n\r\n{price}", price.len() + 1),
            "content-length: 10\r\n\r\n".to_owned(),
            format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{price}\r\n", price.len()),
            format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{price}", price.len() + 5),
            format!("transfer-encoding: chunked\r\n\r\nzz\r\n{price}\r\n0\r\n\r\n"),
        ] {
            println!("{method} {path} {rest:?}");
            let answer = Reply::to_bytes(&api.url, format!("{head}{rest}").as_bytes()).await;
            answer.expect("an answer").problem(400, "incomplete-body");
        }
    }
    // Who hangs up in the middle of a head waits for no answer.
    for bytes in ["", "PUT", "PUT /v1/products/1/price HTTP/1.1\r\n", "PUT /v1/products/1/price HTTP/1.1\r\nhost: x\r\ncontent-ty"] {
        let answer = Reply::to_bytes(&api.url, bytes.as_bytes()).await;
        assert!(answer.is_none(), "{bytes:?} {answer:?}");
    }
    // Who goes on waiting is told off within the time for a head.
    let waited = Reply::to_bytes_held_open(&api.url, b"PUT /v1/products/1/price HTTP/1.1\r\nhost: x\r\n").await;
    assert_eq!(waited.expect("an answer").status, 408);
    assert_eq!(state(&shop).await, before);
    assert_eq!(api.get("/v1/products/1").await.status, 200);
}

/// These never reach a route: the HTTP server refuses them without a body and closes the connection.
#[tokio::test]
async fn what_is_no_http_is_refused_and_changes_nothing() {
    let (shop, api) = stocked().await;
    let before = state(&shop).await;
    let put = "PUT /v1/products/1/price HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let price = r#"{"amount":"7","currency":"GBP"}"#;
    for (bytes, status) in [
        ("hello\r\n\r\n".to_owned(), 400),
        ("GET /v1/products/1 HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /v1/products/1 HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /v1/products/1\0 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("GET /v1/products/\u{e9} HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400),
        (format!("{put}no header\r\n\r\n{price}"), 400),
        (format!("{put}host: y\r\n\r\n{price}"), 400),
        (format!("{put}content-length: -1\r\n\r\n{price}"), 400),
        // Two readers that disagree on where a request ends could be made to see different requests.
        (format!("{put}content-length: 31\r\ncontent-length: 30\r\n\r\n{price}"), 400),
        (format!("{put}content-length: 31\r\ntransfer-encoding: chunked\r\n\r\n{price}"), 400),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(200_000)), 431),
        (format!("{put}x: {}\r\n\r\n", "x".repeat(200_000)), 431),
        (format!("{put}{}\r\n", "x: y\r\n".repeat(200)), 431),
    ] {
        let answer = Reply::to_bytes(&api.url, bytes.as_bytes()).await.expect("an answer");
        let shown = (answer.status, answer.text.as_str(), answer.header("connection"));
        assert_eq!(shown, (status, "", "close"), "{:?}", &bytes[..bytes.len().min(200)]);
    }
    let asterisk = Reply::to_bytes(&api.url, b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("an answer");
    asterisk.problem(404, "unknown-route");
    assert_eq!(state(&shop).await, before);
}
