//! Tests of one client against an API of a few lines that answers as each test says.

use super::*;
use crate::online_retail::ProductLine;
use crate::replay::events::Plan;
use chrono::{NaiveDateTime, TimeDelta};
use domain::{Currency, Sku};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the n-th request (from 0) of its kind is answered; `None` cuts the connection.
type Answers = fn(method: &str, n: usize) -> Option<&'static str>;

const ACCEPTED: &str = "202 Accepted\r\ncontent-length: 0";
const OK: &str = "200 OK\r\ncontent-length: 2";
const BUSY: &str = "503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0";

struct FakeApi {
    url: String,
    /// `METHOD path body` of each request, and how many connections there were.
    seen: Arc<Mutex<(Vec<String>, usize)>>,
}

impl FakeApi {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new((Vec::new(), 0)));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                log.lock().unwrap().1 += 1;
                tokio::spawn(serve(stream, Arc::clone(&log), answers));
            }
        });
        Self { url, seen }
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().0.clone()
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().1
    }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<(Vec<String>, usize)>>, answers: Answers) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        stream.read_line(&mut head).await?;
        let Some((method, path)) = head.split_once(' ') else {
            return Ok(());
        };
        let path = path.split(' ').next().unwrap();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            match header.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let answer = {
            let requests = &mut log.lock().unwrap().0;
            let earlier = requests.iter().filter(|request| request.starts_with(method)).count();
            requests.push(format!("{method} {path} {}", String::from_utf8(body).unwrap()));
            answers(method, earlier)
        };
        let Some(answer) = answer else { return Ok(()) };
        let body = if answer.ends_with('2') { "{}" } else { "" };
        stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n{body}").as_bytes()).await?;
    }
}

fn gbp(price: &str) -> Option<Money> {
    (!price.is_empty()).then(|| Money::parse(price, Currency::parse("GBP").unwrap()).unwrap())
}

/// A client and the events of product 7, a second apart, with these prices.
fn client(url: &str, speed: Option<&str>, prices: &[&str]) -> (Client, Vec<Event>) {
    let sku = Sku::parse("10007").unwrap();
    let line = |(second, price): (i64, &&str)| ProductLine {
        sku: sku.clone(),
        time: NaiveDateTime::default() + TimeDelta::seconds(second),
        description: None,
        price: gbp(price),
    };
    let lines = (0..).zip(prices).map(line).collect();
    let mut plan = Plan::new(lines, &HashMap::from([(sku.clone(), ProductId::new(7).unwrap())]), 1);
    let pace =
        Pace { speed: speed.map(|speed| speed.parse().unwrap()), began: tokio::time::Instant::now(), first: plan.first, last: plan.last };
    let client = Client {
        api: ApiClient::new(url, None).unwrap(),
        pace,
        tally: Arc::default(),
        progress: Progress::start("requests", None),
        stop: Shutdown::new(),
        prices: PricesSent::default(),
        pause: Pause::default(),
    };
    (client, plan.clients.remove(0))
}

#[tokio::test]
async fn views_and_changed_prices_go_out_in_order_over_one_connection() {
    let api = FakeApi::start(|method, _| Some(if method == "POST" { ACCEPTED } else { OK })).await;
    let (client, events) = client(&api.url, None, &["2.1", "2.10", "", "3"]);
    let tally = Arc::clone(&client.tally);
    client.run(events, false).await;
    let view = "POST /v1/products/7/views ";
    let price = |amount| format!("PUT /v1/products/7/price {{\"amount\":\"{amount}\",\"currency\":\"GBP\",\"reason\":\"replay\"}}");
    assert_eq!(api.requests(), [view, &price("2.10"), view, view, view, &price("3.00")]);
    assert_eq!((tally.views_sent.get(), tally.views_accepted.get()), (4, 4));
    assert_eq!((tally.prices_sent.get(), tally.prices_accepted.get()), (2, 2));
    assert_eq!(api.connections(), 1);
}

#[tokio::test]
async fn a_view_answered_503_or_not_at_all_is_unknown_and_is_not_sent_again() {
    let api = FakeApi::start(|_, n| match n {
        0 => Some(BUSY),
        1 => None,
        _ => Some(ACCEPTED),
    })
    .await;
    let (client, events) = client(&api.url, None, &["", "", ""]);
    let tally = Arc::clone(&client.tally);
    client.run(events, false).await;
    assert_eq!(api.requests().len(), 3);
    assert_eq!((tally.views_sent.get(), tally.views_accepted.get(), tally.views_unknown.get()), (3, 1, 2));
}

#[tokio::test]
async fn a_price_is_repeated_until_its_outcome_is_known() {
    let api = FakeApi::start(|method, n| match (method, n) {
        ("PUT", 0) => Some(BUSY),
        ("PUT", 1) => None,
        ("PUT", _) => Some(OK),
        _ => Some(ACCEPTED),
    })
    .await;
    let (client, events) = client(&api.url, None, &["1", "2"]);
    let tally = Arc::clone(&client.tally);
    client.run(events, false).await;
    let amounts: Vec<_> = api.requests().iter().filter_map(|request| request.split('"').nth(3).map(str::to_owned)).collect();
    assert_eq!(amounts, ["1.00", "1.00", "1.00", "2.00"]);
    assert_eq!((tally.prices_sent.get(), tally.prices_accepted.get(), tally.prices_repeated.get()), (2, 2, 2));
}

#[tokio::test]
async fn what_is_refused_is_counted_and_the_rest_is_sent() {
    let api = FakeApi::start(|method, n| match (method, n) {
        ("POST", 0) => Some("404 Not Found\r\ncontent-length: 0"),
        ("PUT", 0) => Some("422 Unprocessable Content\r\ncontent-length: 0"),
        ("PUT", _) => Some(OK),
        _ => Some(ACCEPTED),
    })
    .await;
    let (client, events) = client(&api.url, None, &["1", "2"]);
    let tally = Arc::clone(&client.tally);
    client.run(events, false).await;
    assert_eq!((tally.views_rejected.get(), tally.views_accepted.get()), (1, 1));
    assert_eq!((tally.prices_failed.get(), tally.prices_accepted.get(), tally.prices_repeated.get()), (1, 1, 0));
}

#[tokio::test]
async fn a_repeated_replay_goes_on_until_it_is_asked_to_stop_and_remembers_the_prices_it_sent() {
    let api = FakeApi::start(|method, _| Some(if method == "POST" { ACCEPTED } else { OK })).await;
    let (client, events) = client(&api.url, None, &["1", "1"]);
    let (tally, stop) = (Arc::clone(&client.tally), client.stop.clone());
    let run = tokio::spawn(client.run(events, true));
    while tally.views_accepted.get() < 10 {
        tokio::task::yield_now().await;
    }
    stop.request();
    run.await.unwrap();
    assert_eq!((tally.prices_sent.get(), tally.views_sent.get()), (1, tally.views_accepted.get()));
}

#[tokio::test]
async fn a_paced_replay_takes_its_recorded_time_divided_by_the_speed() {
    let api = FakeApi::start(|_, _| Some(ACCEPTED)).await;
    let (client, events) = client(&api.url, Some("20x"), &["", "", "", "", ""]);
    let began = client.pace.began;
    client.run(events, false).await;
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[test]
fn waits_double_up_to_a_limit_and_follow_retry_after_up_to_another() {
    let mut pause = Pause::default();
    let waits: Vec<_> = (0..8).map(|_| pause.next(None).as_millis()).collect();
    assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    assert_eq!(pause.next(Some(Duration::from_secs(5))), Duration::from_secs(5));
    assert_eq!(pause.next(Some(Duration::from_secs(3600))), LONGEST_ASKED_WAIT);
    assert_eq!(Pause::default().next(Some(Duration::from_secs(1))), Duration::from_secs(1));
}
