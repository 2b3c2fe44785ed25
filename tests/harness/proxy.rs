//! A TCP proxy between a program and a server that can lose what passes through it: hold replies or requests, stop
//! one request that a test names by its bytes, cut connections, refuse new ones. Or slow it down.

use crate::SOON;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// `COMMIT` as MySQL's clients send it.
const COMMIT: &[u8] = b"\x03COMMIT";

/// What the proxy does with each direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Rules {
    hold_requests: bool,
    hold_replies: bool,
    /// Requests of the connections made before this many wait.
    hold_older: u64,
    refuse: bool,
    /// Each request waits so long.
    delay: Duration,
    /// Connections made before the latest cut are closed.
    cuts: u64,
    trap: Option<Trap>,
    /// A trap has caught its request, which waits, or whose reply does.
    caught: bool,
}

/// Catches the next request with these bytes, and with it the rest of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trap {
    bytes: Vec<u8>,
    /// The request passes and its reply is caught.
    reply: bool,
}

/// A proxy on a port of its own.
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
    connections: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts forwarding to `port` on this machine.
    pub async fn to(port: u16) -> Self {
        let listener = listen().await;
        let address = listener.local_addr().expect("a bound listener has an address");
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let (shared, connections) = (rules.clone(), Arc::new(AtomicU64::new(0)));
        let accepted = connections.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.borrow().refuse {
                    continue;
                }
                let number = accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(forward(client, port, number, shared.clone()));
            }
        });
        Self { address, rules, connections }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What clients send from now on waits.
    pub fn hold_requests(&self) {
        self.rules.send_modify(|rules| rules.hold_requests = true);
    }

    /// What clients send from now on over the connections that they have waits; new connections are not held. What waits
    /// arrives when it is released, even if its client has long gone elsewhere.
    pub fn hold_requests_of_present(&self) {
        let present = self.connections.load(Ordering::Relaxed);
        self.rules.send_modify(|rules| rules.hold_older = present);
    }

    /// What the server answers from now on waits, while requests pass.
    pub fn hold_replies(&self) {
        self.rules.send_modify(|rules| rules.hold_replies = true);
    }

    /// The next request that contains `bytes` waits, and whatever follows it on its connection.
    pub fn hold_request_with(&self, bytes: &str) {
        self.trap(bytes.as_bytes(), false);
    }

    /// The next request that contains `bytes` passes, and its reply waits with whatever follows it on its connection.
    pub fn hold_reply_to(&self, bytes: &str) {
        self.trap(bytes.as_bytes(), true);
    }

    /// Each request from now on takes so much longer to come, as on a server that is slow.
    pub fn delay(&self, by: Duration) {
        self.rules.send_modify(|rules| rules.delay = by);
    }

    /// The next COMMIT waits.
    pub fn hold_commit(&self) {
        self.trap(COMMIT, false);
    }

    /// The next COMMIT passes and its reply waits.
    pub fn hold_reply_to_commit(&self) {
        self.trap(COMMIT, true);
    }

    fn trap(&self, bytes: &[u8], reply: bool) {
        let bytes = bytes.to_vec();
        self.rules.send_modify(|rules| (rules.trap, rules.caught) = (Some(Trap { bytes, reply }), false));
    }

    /// Waits until the request that was named has come.
    pub async fn caught(&self) {
        let mut rules = self.rules.subscribe();
        let caught = rules.wait_for(|rules| rules.caught);
        let caught = tokio::time::timeout(SOON, caught).await.expect("the request comes in time");
        caught.expect("the proxy lives");
    }

    /// Everything that waits passes.
    pub fn release(&self) {
        self.rules.send_modify(|rules| {
            (rules.hold_requests, rules.hold_replies, rules.hold_older) = (false, false, 0);
            (rules.trap, rules.caught) = (None, false);
        });
    }

    /// Closes all connections; what was held is lost.
    pub fn cut(&self) {
        self.rules.send_modify(|rules| rules.cuts += 1);
    }

    /// Closes new connections at once, until [`Self::accept`].
    pub fn refuse(&self) {
        self.rules.send_modify(|rules| rules.refuse = true);
    }

    pub fn accept(&self) {
        self.rules.send_modify(|rules| rules.refuse = false);
    }
}

/// Another process may take the port that was found free, in the moment between.
pub(crate) async fn listen() -> TcpListener {
    const TRIES: u32 = 10;
    for _ in 0..TRIES {
        let port = servers::free_port().expect("a port is free");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return listener;
        }
    }
    panic!("{TRIES} free ports were taken by others");
}

async fn forward(client: TcpStream, port: u16, number: u64, rules: Arc<watch::Sender<Rules>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut cut = rules.subscribe();
    let cuts = cut.borrow().cuts;
    let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
    let caught = AtomicBool::new(false);
    tokio::select! {
        // First, so that what was held is lost even if it is released in the same moment.
        biased;
        _ = cut.wait_for(|rules| rules.cuts > cuts) => {}
        () = requests(client_read, server_write, number, &rules, &caught) => {}
        () = replies(server_read, client_write, &rules, &caught) => {}
    }
}

async fn requests(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    number: u64,
    rules: &watch::Sender<Rules>,
    caught: &AtomicBool,
) {
    let (mut buffer, mut watched) = (vec![0; 64 * 1024], rules.subscribe());
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let sent = &buffer[..length];
        let mut held = false;
        rules.send_if_modified(|rules| {
            let springs = |trap: &mut Trap| sent.windows(trap.bytes.len()).any(|window| window == trap.bytes);
            let Some(trap) = rules.trap.take_if(springs) else { return false };
            caught.store(trap.reply, Ordering::SeqCst);
            held = !trap.reply;
            rules.caught = true;
            true
        });
        let delay = rules.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let may_pass = |rules: &Rules| !(rules.hold_requests || number < rules.hold_older || held && rules.caught);
        if watched.wait_for(may_pass).await.is_err() || to.write_all(sent).await.is_err() {
            return;
        }
    }
}

async fn replies(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    rules: &watch::Sender<Rules>,
    caught: &AtomicBool,
) {
    let (mut buffer, mut watched) = (vec![0; 64 * 1024], rules.subscribe());
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let may_pass = |rules: &Rules| !(rules.hold_replies || caught.load(Ordering::SeqCst) && rules.caught);
        if watched.wait_for(may_pass).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
