//! Programs that a test holds between two steps of a protocol. See `telemetry::pause_point`.

use crate::SOON;
use crate::proxy::listen;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use telemetry::pause_point::{self, PausePoint};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// A listener for the programs that are started with [`PausePoints::setting`]. What is not held goes on at once.
pub struct PausePoints {
    address: SocketAddr,
    holds: Arc<Mutex<Vec<Hold>>>,
}

/// Whoever comes there first is handed over.
struct Hold {
    point: String,
    arrival: oneshot::Sender<Held>,
}

/// The next arrival at a point.
pub struct Arrival {
    point: PausePoint,
    arrives: oneshot::Receiver<Held>,
}

/// A program that stands at a point until this is released or dropped, or it is killed.
pub struct Held(TcpStream);

impl PausePoints {
    pub async fn listen() -> Self {
        let listener = listen().await;
        let address = listener.local_addr().expect("a bound listener has an address");
        let holds = Arc::<Mutex<Vec<Hold>>>::default();
        let shared = holds.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(meet(stream, shared.clone()));
            }
        });
        Self { address, holds }
    }

    /// What a program is started with to be held here.
    #[must_use]
    pub fn setting(&self) -> (&'static str, String) {
        (pause_point::VARIABLE, self.address.to_string())
    }

    /// The next program that comes to `point` stays there; those after it go on.
    #[must_use]
    pub fn hold(&self, point: PausePoint) -> Arrival {
        let (arrival, arrives) = oneshot::channel();
        let hold = Hold { point: format!("{point:?}"), arrival };
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).push(hold);
        Arrival { point, arrives }
    }
}

impl Arrival {
    /// Waits until a program is there.
    pub async fn held(mut self) -> Held {
        self.arrived().await
    }

    /// The same, of which the waiting may be given up and begun again.
    pub async fn arrived(&mut self) -> Held {
        let arrived = tokio::time::timeout(SOON, &mut self.arrives).await;
        let arrived = arrived.unwrap_or_else(|_| panic!("no program came to {:?}", self.point));
        arrived.expect("the listener lives as long as its test")
    }
}

impl Held {
    /// Lets the program go on.
    pub fn release(self) {
        drop(self.0);
    }
}

/// Reads which point a program is at, and keeps it there if somebody wants it.
async fn meet(stream: TcpStream, holds: Arc<Mutex<Vec<Hold>>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let _ = reader.read_line(&mut line).await;
    let point = line.split(' ').next().unwrap_or_default();
    let hold = {
        let mut holds = holds.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = holds.iter().position(|hold| hold.point == point);
        wanted.map(|place| holds.remove(place))
    };
    if let Some(hold) = hold {
        // Whoever wanted it may have gone; then it goes on.
        let _ = hold.arrival.send(Held(reader.into_inner()));
    }
}
