//! Prices beside the drain while MySQL is slow: every statement of API and worker takes ten times as long.
//!
//! A proxy holds each statement back on its way. Views flow all the time, so that only the drain makes the difference: the worker
//! is away, and is there, in turns.

use crate::figures::{Spread, paired};
use crate::load::{self, End};
use crate::paced::Paced;
use crate::report::Mark::AtMost;
use crate::report::{Line, Unit};
use crate::requests::{PRICE_SPAN, Requests};
use crate::rows::Plan;
use crate::stack::{Stack, THEIRS};
use crate::versus::SEED;
use anyhow::{Context, ensure};
use mysql_async::prelude::Queryable;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const CLIENTS: usize = 16;

/// Rounds of one turn with the drain and one without.
const ROUNDS: u32 = 3;

/// Of a turn, whatever else is measured for: a price takes six slow statements.
const MEASURED: Duration = Duration::from_millis(1_500);

/// Prices of other rows are below: no PUT is of the price that is there.
const POUNDS: usize = 100 * PRICE_SPAN;

/// Views a second meanwhile.
const VIEWS_PER_SECOND: u32 = 2_000;

/// How often longer a statement takes.
const SLOWER: u32 = 10;

/// Statements that tell how long one takes.
const STATEMENTS: u32 = 100;

/// Of the p99 beside the drain to that without it.
const DRAIN_COSTS: f64 = 2.0;

pub(crate) fn planned(plan: &Plan) -> Duration {
    2 * ROUNDS * (plan.warm + MEASURED)
}

/// # Errors
/// An error answer, or a lost or doubled view.
pub(crate) async fn run(stack: &mut Stack, plan: &Plan) -> anyhow::Result<Line> {
    stack.set_appendfsync("everysec").await?;
    let usual = statement(stack).await?;
    let proxy = Proxy::start(stack.mysql_port(), usual * (SLOWER - 1)).await?;
    stack.reroute(Some(proxy.port))?;
    stack.stop_worker()?;
    let prices = Arc::new(Requests::prices(POUNDS));
    let views = Paced::start(stack.api(), VIEWS_PER_SECOND, SEED);
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let without = p99(stack, plan, &prices).await?;
        stack.start_worker()?;
        pairs.push((p99(stack, plan, &prices).await?, without));
        stack.stop_worker()?;
    }
    let ledger = views.end().await?;
    let (acknowledged, unknown) = ledger.sums();
    ensure!(unknown == 0, "{unknown} views were not answered 202 while MySQL was slow");
    stack.accepted += acknowledged;
    stack.reroute(None)?;
    stack.wait_drained().await?;
    let median = |of: fn(&(f64, f64)) -> f64| Spread::of(&pairs.iter().map(of).collect::<Vec<_>>()).map_or(f64::NAN, |all| all.median);
    let title = format!("PUT price p99 beside the drain : without it, MySQL slow, {CLIENTS} clients");
    let line = Line::figure("slow", title, Unit::Milliseconds, median(|pair| pair.0), None);
    let line = line.against(median(|pair| pair.1), Spread::of(&paired(&pairs)), Some(AtMost(DRAIN_COSTS)));
    let usual = usual.as_secs_f64() * 1e3;
    Ok(line.note(format!(
        "a statement takes {:.1} ms instead of {usual:.1} ms; {VIEWS_PER_SECOND} views a second on both sides",
        usual * f64::from(SLOWER)
    )))
}

/// How long a statement that changes a row takes as it is.
async fn statement(stack: &Stack) -> anyhow::Result<Duration> {
    let mut connection = stack.sql.get_conn().await?;
    let began = Instant::now();
    for id in 1..=STATEMENTS {
        connection.exec_drop(format!("UPDATE {THEIRS}.product_views SET views = views + 1 WHERE product_id = ?"), (id,)).await?;
    }
    Ok(began.elapsed() / STATEMENTS)
}

async fn p99(stack: &Stack, plan: &Plan, prices: &Arc<Requests>) -> anyhow::Result<f64> {
    let end = End::After { warm: plan.warm, measured: MEASURED };
    let slice = load::run(stack.api(), prices, CLIENTS, end).await?;
    ensure!(slice.counted > 0, "no price was answered within {MEASURED:?}");
    Ok(slice.millis(0.99))
}

/// Holds back what clients send to a server, each connection by itself. Ends when it is dropped.
struct Proxy {
    port: u16,
    _ends: oneshot::Sender<()>,
}

impl Proxy {
    /// On a thread of its own: whoever waits for a program to be ready does so without the runtime.
    async fn start(server: u16, delay: Duration) -> anyhow::Result<Self> {
        let (ends, ended) = oneshot::channel();
        let (sender, started) = oneshot::channel();
        let serve = async move {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let _ = sender.send(listener.local_addr()?.port());
            loop {
                let (client, _) = listener.accept().await?;
                tokio::spawn(forward(client, SocketAddr::from(([127, 0, 0, 1], server)), delay));
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the proxy")?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    failed = serve => failed,
                    _ = ended => std::io::Result::Ok(()),
                }
            })
        });
        Ok(Self { port: started.await.context("the proxy cannot listen")?, _ends: ends })
    }
}

/// Until either side closes.
async fn forward(client: TcpStream, server: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((mut requests, mut to_client), (mut replies, mut to_server)) = (client.into_split(), server.into_split());
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let length @ 1.. = requests.read(&mut buffer).await? {
            tokio::time::sleep(delay).await;
            to_server.write_all(&buffer[..length]).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = requests => ended,
        ended = tokio::io::copy(&mut replies, &mut to_client) => ended.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives_later_and_whole() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let delay = Duration::from_millis(30);
        let proxy = Proxy::start(listener.local_addr().unwrap().port(), delay).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let began = Instant::now();
        client.write_all(b"SELECT 1").await.unwrap();
        let mut buffer = [0; 8];
        server.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"SELECT 1");
        assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
        server.write_all(b"1").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'1');
    }
}
