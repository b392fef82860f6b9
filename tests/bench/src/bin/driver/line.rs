//! A line to Redis that is as long as if Redis were in another building.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// Bytes in transit to the client, and when they arrive.
type Chunk = (Instant, Vec<u8>);

/// Opens a line to the port of a server, on which answers are delayed, and returns the line's own port.
///
/// The line is there until the program ends. It runs on threads, since the runtime's timers are too coarse.
pub(crate) fn open(server: u16, delay: Duration) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that can't be carried is disconnected.
            let _ = carry(client, server, delay);
        }
    });
    Ok(port)
}

fn carry(client: TcpStream, server: u16, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    // Small packets must not wait to be sent together with later ones, here least of all.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (sets_out, arrives) = mpsc::channel();
    thread::spawn(move || set_out(server, &sets_out, delay));
    thread::spawn(move || arrive(client, arrives));
    Ok(())
}

fn set_out(mut server: TcpStream, sets_out: &Sender<Chunk>, delay: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        if sets_out.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
}

fn arrive(mut client: TcpStream, arrives: Receiver<Chunk>) {
    for (time, bytes) in arrives {
        thread::sleep(time.saturating_duration_since(Instant::now()));
        if client.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}
