//! A connection to a server, for a single caller.
//!
//! The connections of the `redis` crate are for many concurrent callers, and have a task that sends and receives
//! for them. With a single caller, that task costs more than the call itself. So only the
//! [handshake](super::handshake) and the parsing of answers are left to that crate.
//!
//! Giving a call up leaves the connection usable: a call that has been sent in part is sent to its end, and its
//! answers are discarded when they come. Nothing is sent twice.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;

use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::endpoint::located;
use super::resp::{self, Requests};
use super::socket::Socket;

/// How much is read at once; longer answers take several reads.
pub(super) const CHUNK: usize = 8 * 1024;

/// How long the answers may be that have come and are not complete: far longer than any to what is asked here, even
/// the slots of a large cluster.
const LONGEST: usize = 4 * 1024 * 1024;

/// A connection to a server.
pub(in super::super) struct Wire {
    socket: Socket,
    requests: Requests,
    /// Where in the requests the last call begins.
    begin: usize,
    /// How many bytes of the requests have been sent.
    sent: usize,
    input: Vec<u8>,
    /// How many bytes of the input have been consumed.
    read: usize,
    /// How many answers to the current calls are still to come.
    awaited: usize,
    /// How many answers to calls that were given up are still to come, before those.
    abandoned: usize,
    /// How many commands at the start of the last call were given up before any of it was sent.
    unsent_abandoned: usize,
    /// The address of the server.
    address: String,
    /// Whether it is known that the server has transactions.
    transacts: bool,
}

impl Wire {
    /// Creates a connection from a socket whose server has been greeted.
    pub(in super::super) fn over(socket: Socket, address: String) -> Self {
        Self {
            socket,
            requests: Requests::default(),
            begin: 0,
            sent: 0,
            input: Vec::with_capacity(CHUNK),
            read: 0,
            awaited: 0,
            abandoned: 0,
            unsent_abandoned: 0,
            address,
            transacts: false,
        }
    }

    /// Returns the address of the server.
    #[cfg(feature = "redis-sentinel")]
    pub(in super::super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the same error with the server's address in its text.
    pub(in super::super) fn located(&self, error: RedisError) -> RedisError {
        located(&self.address, error)
    }

    /// Finds out whether the server has transactions, for this user.
    pub(in super::super) async fn try_transaction(&mut self) -> RedisResult<()> {
        let requests = self.begin_call();
        requests.command("MULTI", 0);
        requests.command("EXEC", 0);
        let (begun, executed) = (self.answer().await?, self.answer().await?);
        let (has_begun, is_executed) = (begun.extract_error().is_ok(), executed.extract_error().is_ok());
        if has_begun && !is_executed {
            // `EXEC` was refused, so the transaction is still open, and all that follows would become part of it.
            self.begin_call().command("DISCARD", 0);
            self.answer().await?;
        }
        self.transacts = has_begun && is_executed;
        Ok(())
    }

    /// Whether it is known that the server has transactions.
    pub(in super::super) fn transacts(&self) -> bool {
        self.transacts
    }

    /// Begins a call, and returns where to add its commands. [`push`](Self::push) or the first
    /// [`answer`](Self::answer) sends it. The call before is given up, if it has not been answered.
    pub(in super::super) fn begin_call(&mut self) -> &mut Requests {
        if self.sent <= self.begin {
            // Drops a call of which nothing has been sent.
            self.requests.truncate(self.begin);
            self.unsent_abandoned = 0;
        }
        if self.sent == self.requests.bytes.len() {
            self.requests.truncate(0);
            self.sent = 0;
        }
        self.begin = self.requests.bytes.len();
        self.abandoned += std::mem::take(&mut self.awaited);
        &mut self.requests
    }

    /// Whether all calls have been sent.
    pub(in super::super) fn is_sent(&self) -> bool {
        self.sent == self.requests.bytes.len()
    }

    /// Begins another call before the current ones are answered; their answers come first. Returns `None` unless
    /// all calls [have been sent](Self::is_sent).
    pub(in super::super) fn begin_pipelined_call(&mut self) -> Option<&mut Requests> {
        if !self.is_sent() {
            return None;
        }
        self.requests.truncate(0);
        (self.begin, self.sent) = (0, 0);
        Some(&mut self.requests)
    }

    /// Sends as much as can be sent without waiting. If that fails, so does the next answer.
    pub(in super::super) async fn push(&mut self) {
        poll_fn(|context| {
            let _ = pin!(self.send()).poll(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Gives up the next `answers` answers to the current calls.
    pub(in super::super) fn give_up(&mut self, answers: usize) {
        debug_assert!(self.requests.commands == 0 || self.sent <= self.begin, "what is sent is counted");
        let sent = answers.min(self.awaited);
        self.awaited -= sent;
        self.abandoned += sent;
        // A call is sent as a whole, so commands that have not been sent yet still are.
        let unsent = (answers - sent).min(self.requests.commands);
        self.requests.commands -= unsent;
        self.unsent_abandoned += unsent;
    }

    /// Returns the answer to the next command of the current calls. An error from the server is one of the values.
    pub(in super::super) async fn answer(&mut self) -> RedisResult<Value> {
        self.send().await?;
        loop {
            if let Some(answer) = self.next()? {
                self.awaited = self.awaited.checked_sub(1).ok_or_else(unasked)?;
                return resp::value(&self.input[answer]);
            }
            self.receive().await?;
        }
    }

    /// Asks a single command, and returns the answer. The calls before are given up.
    pub(in super::super) async fn query<T: FromRedisValue>(
        &mut self,
        name: &str,
        arguments: &[&str],
    ) -> RedisResult<T> {
        let requests = self.begin_call();
        requests.command(name, arguments.len());
        for argument in arguments {
            requests.argument(argument.as_bytes());
        }
        Ok(T::from_redis_value(self.answer().await?.extract_error()?)?)
    }

    /// Waits until the connection is lost, and returns why. The current calls are given up.
    pub(in super::super) async fn lost(&mut self) -> RedisError {
        self.begin_call();
        match self.listen().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn listen(&mut self) -> RedisResult<Infallible> {
        self.send().await?;
        loop {
            if self.next()?.is_some() {
                return Err(unasked());
            }
            self.receive().await?;
        }
    }

    /// Sends what has not been sent.
    async fn send(&mut self) -> io::Result<()> {
        debug_assert!(self.requests.are_complete(), "a command is sent whole");
        while self.sent < self.requests.bytes.len() {
            match self.socket.write(&self.requests.bytes[self.sent..]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => self.sent += sent,
            }
            if self.sent > self.begin {
                self.abandoned += std::mem::take(&mut self.unsent_abandoned);
                self.awaited += std::mem::take(&mut self.requests.commands);
            }
        }
        self.socket.flush().await
    }

    /// Returns where in the input the next answer is that has not been given up.
    fn next(&mut self) -> RedisResult<Option<Range<usize>>> {
        while let Some(length) = resp::end(&self.input[self.read..])? {
            let answer = self.read..self.read + length;
            self.read = answer.end;
            if resp::is_push(&self.input[answer.clone()]) {
                continue;
            }
            if self.abandoned == 0 {
                return Ok(Some(answer));
            }
            self.abandoned -= 1;
        }
        Ok(None)
    }

    /// Reads what the server sends next.
    async fn receive(&mut self) -> RedisResult<()> {
        self.input.drain(..self.read);
        self.read = 0;
        if self.input.len() > LONGEST {
            return Err((ErrorKind::Parse, "the server's answer does not end").into());
        }
        match self.socket.read_buf(&mut self.input).await? {
            0 => Err(closed()),
            _ => Ok(()),
        }
    }
}

pub(super) fn closed() -> RedisError {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server has closed the connection").into()
}

fn unasked() -> RedisError {
    (ErrorKind::Parse, "the server has answered what it was not asked").into()
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Returns a connection and the server's end of it, with at most `bytes` bytes on their way.
    fn wire(bytes: usize) -> (Wire, DuplexStream) {
        let (near, far) = duplex(bytes);
        (Wire::over(Box::pin(near), String::new()), far)
    }

    async fn receives(server: &mut DuplexStream, expected: &str) {
        let mut received = vec![0; expected.len()];
        server.read_exact(&mut received).await.expect("it is sent");
        assert_eq!(String::from_utf8_lossy(&received), expected);
    }

    /// Begins a call, and gives it up once it can't make progress.
    async fn give_up(wire: &mut Wire, name: &str) {
        wire.begin_call().command(name, 0);
        tokio::select! {
            biased;
            answer = wire.answer() => panic!("nobody has answered: {answer:?}"),
            () = std::future::ready(()) => {}
        }
    }

    const A: &str = "*1\r\n$1\r\nA\r\n";
    const B: &str = "*1\r\n$1\r\nB\r\n";
    const C: &str = "*1\r\n$1\r\nC\r\n";

    #[tokio::test]
    async fn an_answer_without_end_is_an_error() {
        let (mut wire, mut server) = wire(1 << 20);
        wire.begin_call().command("GET", 0);
        let serving = async {
            server.write_all(b"$100000000000\r\n").await.expect("it is read");
            while server.write_all(&[b'x'; 8_192]).await.is_ok() {}
        };
        let asking = async move {
            let error = wire.answer().await.expect_err("it does not end");
            assert_eq!(error.kind(), ErrorKind::Parse, "{error}");
        };
        tokio::join!(serving, asking);
    }

    #[tokio::test]
    async fn the_answers_to_a_call_come_in_turn_in_whatever_pieces() {
        let (mut wire, mut server) = wire(1024);
        let requests = wire.begin_call();
        requests.command("SET", 2);
        requests.pieces(&[b"rl:", b"a"]);
        requests.number(-12);
        requests.command("GET", 1);
        requests.argument(b"rl:a");
        let serving = async {
            receives(
                &mut server,
                "*3\r\n$3\r\nSET\r\n$4\r\nrl:a\r\n$3\r\n-12\r\n*2\r\n$3\r\nGET\r\n$4\r\nrl:a\r\n",
            )
            .await;
            for piece in ["+O", "K\r", "\n>2\r\n+pubsub\r\n:1\r\n*2\r\n:1\r", "\n", "$2\r\nab\r", "\n"] {
                server.write_all(piece.as_bytes()).await.expect("it is read");
                tokio::task::yield_now().await;
            }
        };
        let asking = async { (wire.answer().await, wire.answer().await) };
        let ((), answers) = tokio::join!(serving, asking);
        let list = Value::Array(vec![Value::Int(1), Value::BulkString(b"ab".to_vec())]);
        assert_eq!(answers, (Ok(Value::Okay), Ok(list)));
    }

    #[tokio::test]
    async fn what_is_given_up_is_not_mistaken_for_the_next() {
        // The call has been sent whole, or in part, or in part with nothing of the call behind it, which is then
        // never sent.
        for (bytes, given_up, sent) in [
            (1024, &["A"][..], &[A][..]),
            (1024, &["A", "C"], &[A, C]),
            (4, &["A"], &[A]),
            (4, &["A", "C"], &[A]),
        ] {
            let (mut wire, mut server) = wire(bytes);
            for name in given_up {
                give_up(&mut wire, name).await;
            }
            wire.begin_call().command("B", 0);
            let serving = async {
                for request in sent {
                    receives(&mut server, request).await;
                    server.write_all(b":1\r\n").await.expect("it is read");
                }
                receives(&mut server, B).await;
                server.write_all(b":2\r\n").await.expect("it is read");
            };
            let ((), answer) = tokio::join!(serving, wire.answer());
            assert_eq!(answer, Ok(Value::Int(2)), "{given_up:?}");
        }
    }

    #[tokio::test]
    async fn what_is_given_up_before_it_is_sent_is_not_mistaken_for_what_goes_with_it() {
        let (mut wire, mut server) = wire(4);
        give_up(&mut wire, "A").await;
        let requests = wire.begin_call();
        requests.command("B", 0);
        requests.command("C", 0);
        wire.push().await;
        wire.give_up(1);
        let serving = async {
            receives(&mut server, &format!("{A}{B}{C}")).await;
            server.write_all(b":1\r\n:2\r\n:3\r\n").await.expect("it is read");
        };
        let ((), answer) = tokio::join!(serving, wire.answer());
        assert_eq!(answer, Ok(Value::Int(3)));
    }

    #[tokio::test]
    async fn what_is_given_up_is_sent_to_its_end_while_nobody_asks() {
        let (mut wire, mut server) = wire(4);
        give_up(&mut wire, "A").await;
        give_up(&mut wire, "C").await;
        let serving = async {
            receives(&mut server, A).await;
            server.write_all(b":1\r\n").await.expect("it is read");
            drop(server);
        };
        let ((), error) = tokio::join!(serving, wire.lost());
        assert_eq!(error.kind(), ErrorKind::Io, "nothing but the end of the connection: {error}");
    }

    #[tokio::test]
    async fn what_has_not_begun_to_be_sent_never_is() {
        let (mut wire, mut server) = wire(1024);
        wire.begin_call().command("A", 0);
        wire.begin_call().command("B", 0);
        let serving = async {
            receives(&mut server, B).await;
            server.write_all(b":2\r\n").await.expect("it is read");
        };
        let ((), answer) = tokio::join!(serving, wire.answer());
        assert_eq!(answer, Ok(Value::Int(2)));
    }

    #[tokio::test]
    async fn a_call_may_follow_another_that_is_not_answered_or_never() {
        for given_up in [0, 1] {
            let (mut wire, mut server) = wire(1024);
            wire.begin_call().command("A", 0);
            wire.push().await;
            wire.begin_pipelined_call().expect("the first is sent").command("B", 0);
            wire.push().await;
            receives(&mut server, &format!("{A}{B}")).await;
            wire.give_up(given_up);
            server.write_all(b":1\r\n:2\r\n").await.expect("it is read");
            for expected in [1, 2].into_iter().skip(given_up) {
                assert_eq!(wire.answer().await, Ok(Value::Int(expected)));
            }
        }
        let (mut wire, mut server) = wire(4);
        wire.begin_call().command("A", 0);
        wire.push().await;
        assert!(wire.begin_pipelined_call().is_none(), "the first is on its way");
        let serving = async {
            receives(&mut server, A).await;
            server.write_all(b":1\r\n").await.expect("it is read");
        };
        let ((), answer) = tokio::join!(serving, wire.answer());
        assert_eq!(answer, Ok(Value::Int(1)));
    }

    #[tokio::test]
    async fn a_connection_is_lost_when_it_is_closed_or_says_what_nobody_asked() {
        for (says, kind) in
            [("", ErrorKind::Io), (":1\r\n:2\r\n", ErrorKind::Parse), ("HTTP/1.1\r\n", ErrorKind::Parse)]
        {
            let (mut wire, mut server) = wire(1024);
            give_up(&mut wire, "A").await;
            server.write_all(says.as_bytes()).await.expect("it is read");
            drop(server);
            let error = wire.lost().await;
            assert_eq!(error.kind(), kind, "{says}: {error}");
            assert!(!says.starts_with("HTTP") || error.to_string().contains("does not speak"), "{error}");
        }
    }
}
