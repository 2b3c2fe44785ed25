//! A TCP proxy between a program and a server that can lose what passes through it: hold replies or requests, cut
//! connections, refuse new ones.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Rules {
    hold_requests: bool,
    hold_replies: bool,
    refuse: bool,
    /// Connections made before the latest cut are closed.
    cuts: u64,
}

/// A proxy on a port of its own.
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<watch::Sender<Rules>>,
}

impl Proxy {
    /// Starts forwarding to `port` on this machine.
    pub async fn to(port: u16) -> Self {
        let own = servers::free_port().expect("a port is free");
        let listener = TcpListener::bind(("127.0.0.1", own)).await.expect("the port is still free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let shared = rules.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.borrow().refuse {
                    continue;
                }
                tokio::spawn(forward(client, port, shared.subscribe()));
            }
        });
        Self { address, rules }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What clients send from now on waits.
    pub fn hold_requests(&self) {
        self.rules.send_modify(|rules| rules.hold_requests = true);
    }

    /// What the server answers from now on waits, while requests pass.
    pub fn hold_replies(&self) {
        self.rules.send_modify(|rules| rules.hold_replies = true);
    }

    /// Everything that waits passes.
    pub fn release(&self) {
        self.rules.send_modify(|rules| (rules.hold_requests, rules.hold_replies) = (false, false));
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

async fn forward(client: TcpStream, port: u16, mut rules: watch::Receiver<Rules>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let cuts = rules.borrow().cuts;
    let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
    let requests = copy(client_read, server_write, rules.clone(), |rules| rules.hold_requests);
    let replies = copy(server_read, client_write, rules.clone(), |rules| rules.hold_replies);
    tokio::select! {
        () = requests => {}
        () = replies => {}
        _ = rules.wait_for(|rules| rules.cuts > cuts) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut rules: watch::Receiver<Rules>,
    held: impl Fn(&Rules) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if rules.wait_for(|rules| !held(rules)).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
