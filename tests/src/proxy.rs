//! A bad line to a server.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What is wrong with the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// What the server says takes that long.
    Delay(Duration),
    /// What the server says is lost, and so is all that it says on that connection later.
    Swallow,
    /// So many pieces of what the server says on a connection arrive, and what it says later is lost.
    SwallowAfter(usize),
    /// So many pieces of what the server says on a connection arrive, and then it is cut.
    CutAfter(usize),
    /// After so many bytes of what the server says next, the connection is cut.
    Cut(usize),
    /// The connection whose turn it is next is cut instead of a reply, and all is well again.
    CutOnce,
    /// Who connects is hung up on.
    HangUp,
}

/// A port of loopback that leads to a server, over a line with faults.
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
    /// Grows when all connections are cut.
    cut: watch::Sender<u64>,
}

impl FaultProxy {
    /// A line to the server at `port`, with nothing wrong yet.
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

    /// Where it leads to the server from, as a URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Where it leads to the server from.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes something wrong from now on, for connections that there are and that come.
    pub fn set(&self, fault: Fault) {
        *self.line.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Cuts all connections that there are.
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

    /// Whether whoever asks is the first.
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
            // What is small must not wait for what comes next, here least of all.
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
    // A long line is not a narrow one: what is under way does not keep others from setting out.
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
    // A reply that is lost must not be followed by one that isn't: it would be taken for the lost one.
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
