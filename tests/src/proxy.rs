//! A proxy that simulates a bad line to a server.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A fault of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is wrong.
    None,
    /// The server's replies arrive this much later.
    Delay(Duration),
    /// The server's replies are lost, and so are all later ones on the same connection.
    Swallow,
    /// On each connection, this many pieces of the server's replies arrive, and the rest is lost.
    SwallowAfter(usize),
    /// On each connection, this many pieces of the server's replies arrive, and then the connection is cut.
    CutAfter(usize),
    /// The connection is cut after this many bytes of the server's next reply.
    Cut(usize),
    /// The next reply, on whichever connection, is replaced by a cut; then all is well again.
    CutOnce,
    /// New connections are closed at once.
    HangUp,
}

/// A port on loopback that leads to a server over a line with faults.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    line: Arc<Line>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Line {
    server: u16,
    fault: Mutex<Fault>,
    /// Incremented to cut all connections.
    cut: watch::Sender<u64>,
}

impl FaultProxy {
    /// Opens a line to the server at `port`, without a fault yet.
    ///
    /// # Panics
    ///
    /// If loopback has no free port, or there is no runtime.
    pub fn to(port: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.expect("loopback has a free port");
        let own = listener.local_addr().expect("it is bound").port();
        listener.set_nonblocking(true).expect("it can wait");
        let listener = TcpListener::from_std(listener).expect("there is a runtime");
        let line =
            Arc::new(Line { server: port, fault: Mutex::new(Fault::None), cut: watch::Sender::new(0) });
        let listening = tokio::spawn(listen(listener, Arc::clone(&line)));
        Self { port: own, line, listening }
    }

    /// Returns the URL at which the line begins.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Returns the port at which the line begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the fault from now on, for existing and new connections.
    pub fn set(&self, fault: Fault) {
        *self.line.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Cuts all existing connections.
    pub fn cut(&self) {
        self.line.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

impl Line {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clears the fault. Returns whether it still was [`Fault::CutOnce`], as it is for the first caller only.
    fn heal(&self) -> bool {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *fault, Fault::None) == Fault::CutOnce
    }
}

async fn listen(listener: TcpListener, line: Arc<Line>) {
    while let Ok((client, _)) = listener.accept().await {
        if line.fault() == Fault::HangUp {
            continue;
        }
        let line = Arc::clone(&line);
        tokio::spawn(async move {
            let mut cut = line.cut.subscribe();
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, line.server)).await else { return };
            // Small packets must not wait to be sent together with later ones, here least of all.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = carry(from_client, to_server) => {}
                () = carry_replies(from_server, to_client, &line) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn carry_replies(from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line) {
    let (later, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    // A long line is not a narrow one: bytes in transit do not hold back the ones after them.
    let arriving = async {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(set_out(from, later, line), arriving);
}

async fn set_out(mut from: OwnedReadHalf, later: mpsc::UnboundedSender<(Instant, Vec<u8>)>, line: &Line) {
    let mut buffer = vec![0; 64 * 1024];
    // Once a reply is lost, all later ones must be: the next to arrive would be taken for the lost one.
    let mut lost = false;
    let mut pieces = 0;
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        let fault = line.fault();
        lost |= fault == Fault::Swallow || matches!(fault, Fault::SwallowAfter(most) if pieces >= most);
        if lost {
            continue;
        }
        pieces += 1;
        let delay = if let Fault::Delay(delay) = fault { delay } else { Duration::ZERO };
        let is_cut = match fault {
            Fault::Cut(_) => true,
            Fault::CutAfter(most) => pieces >= most,
            Fault::CutOnce => line.heal(),
            _ => false,
        };
        let length = match fault {
            Fault::Cut(after) => after.min(length),
            Fault::CutOnce if is_cut => 0,
            _ => length,
        };
        let sent = later.send((Instant::now() + delay, buffer[..length].to_vec()));
        if is_cut || sent.is_err() {
            return;
        }
    }
}
