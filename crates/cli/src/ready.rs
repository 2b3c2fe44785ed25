//! `ready`: whether a program is ready, by its ops listener. For the health checks of containers, whose image has no `curl`, and for
//! scripts that wait.

use crate::args::ReadyArgs;
use crate::exit::{Exit, Failure, chain};
use crate::output::{Output, Row};
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// The listener answers from memory.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Readiness {
    /// `ready` or `degraded`: useful, but not for everything.
    readiness: String,
}

impl Row for Readiness {
    const COLUMNS: &'static [&'static str] = &["readiness"];

    fn cells(&self) -> Vec<String> {
        vec![self.readiness.clone()]
    }
}

pub(crate) async fn run(args: &ReadyArgs, output: &Output) -> Result<Exit, Failure> {
    let ops = args.ops;
    let unreached = |fault: reqwest::Error| {
        let why = if fault.is_connect() { "nobody listens there".to_owned() } else { chain(&fault.without_url()) };
        Failure::new(Exit::Unreachable, format!("{ops}: {why}"))
    };
    let http = Client::builder().no_proxy().timeout(LIMIT).build();
    let http = http.map_err(|fault| Failure::doing("making the HTTP client", &fault))?;
    let answer = http.get(format!("http://{ops}/readyz")).send().await.map_err(unreached)?;
    let status = answer.status();
    let body = answer.text().await.map_err(unreached)?;
    match status {
        StatusCode::OK => {
            output.one(&Readiness { readiness: body.trim().to_owned() })?;
            Ok(Exit::Ok)
        }
        StatusCode::SERVICE_UNAVAILABLE => Err(Failure::new(Exit::Failure, format!("{ops} is not ready: {}", detail(&body)))),
        _ => Err(Failure::new(Exit::Failure, format!("{ops} is no ops listener of ours: /readyz answered {status}"))),
    }
}

/// What the problem says; nothing where it is none.
fn detail(body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    problem["detail"].as_str().unwrap_or_default().to_owned()
}
