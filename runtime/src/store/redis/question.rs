//! What has been asked of a server in one call, part by part, and what it has answered so far.

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::answers::unexpected;
use super::batch::Batch;
use super::connection::Wire;
use super::part::{Decider, Part};

/// The parts of a call, and the replies to them.
#[derive(Clone, Default)]
pub(super) struct Question {
    parts: Vec<Part>,
    /// The reply to each part, once it has one.
    replies: Vec<Option<RedisResult<Value>>>,
    /// How many replies have been heard since the last one that decides a part.
    heard: usize,
    /// The first refusal among them, if they are those of a transaction.
    refused: Option<RedisError>,
    /// Whether it has been asked again after a script was lost.
    is_asked_again: bool,
}

impl Question {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        let replies = parts.iter().map(|_| None).collect();
        Self { parts, replies, heard: 0, refused: None, is_asked_again: false }
    }

    /// Returns the parts that have no reply.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().zip(&self.replies).filter(|(_, reply)| reply.is_none()).map(|(part, _)| part)
    }

    /// Returns the reply to each part that has one. A part that only corrects what was charged is decided,
    /// whatever becomes of the correction.
    pub(super) fn into_replies(self) -> impl Iterator<Item = (Part, RedisResult<Value>)> {
        self.parts.into_iter().zip(self.replies).filter_map(|(part, reply)| {
            let reply = match (part.decider, reply) {
                (Decider::Take { overcharge: Some(charged) }, None | Some(Err(_))) => Ok(charged.told()),
                (_, reply) => reply?,
            };
            Some((part, reply))
        })
    }

    /// Waits for all replies. Cancel safe: a later call goes on where this one was dropped.
    pub(super) async fn hear(&mut self, wire: &mut Wire, batch: &Batch) -> RedisResult<()> {
        for (part, reply) in self.parts.iter().zip(&mut self.replies).filter(|(_, reply)| reply.is_none()) {
            let is_transaction = part.decider == Decider::Transaction;
            while self.heard < part.answers_before(batch) {
                let answer = wire.answer().await?.extract_error();
                self.heard += 1;
                // The refusal of an `ASKING` need not be kept: what it was sent for is then refused, too.
                if let (true, None, Err(error)) = (is_transaction, &self.refused, answer) {
                    self.refused = Some(error);
                }
            }
            let answer = wire.answer().await?;
            self.heard = 0;
            *reply = Some(match (self.refused.take(), answer) {
                (Some(refused), _) => Err(refused),
                // The error of one of its commands does not concern the others, so it stays in the list.
                (None, executed @ Value::Array(_)) if is_transaction => Ok(executed),
                (None, answer) => answer.extract_error(),
            });
        }
        Ok(())
    }

    /// Returns how many replies are still to come.
    pub(super) fn awaited(&self, batch: &Batch) -> usize {
        self.unanswered().map(|part| part.answers_before(batch) + 1).sum::<usize>() - self.heard
    }

    /// Settles what transactions have answered. Returns whether something has to be asked again, once all is
    /// answered: because the server had lost a script, or because a transaction has charged a counter as it
    /// should not have, or could not charge it.
    pub(super) fn settle(&mut self, batch: &Batch) -> bool {
        let mut left = Vec::new();
        let parts = self.parts.iter_mut().zip(&mut self.replies);
        for (part, reply) in parts.filter(|(part, _)| part.decider == Decider::Transaction) {
            let Some(Ok(Value::Array(executed))) = reply else { continue };
            *reply = Some(if executed.len() + 1 == part.answers_before(batch) {
                let (taken, of_part) = part.settle(batch, executed);
                left.extend(of_part);
                Ok(taken)
            } else {
                Err(unexpected())
            });
        }
        let is_unsettled = !left.is_empty();
        self.replies.extend(left.iter().map(|_| None));
        self.parts.extend(left);
        is_unsettled || self.has_lost_script()
    }

    /// Whether nothing has failed, and all that is [unsettled](Self::settle) only corrects what was charged.
    pub(super) fn is_decided(&self) -> bool {
        let is_charged = |part: &Part| matches!(part.decider, Decider::Take { overcharge: Some(_) });
        self.unanswered().all(is_charged) && self.replies.iter().flatten().all(Result::is_ok)
    }

    /// Whether a transaction was refused in a way that may mean that the user may not run any, or that the server has
    /// none.
    pub(super) fn has_refused_transaction(&self) -> bool {
        use ServerErrorKind::{ExecAbort, NoPerm};
        let is_refusal = |error: &RedisError| matches!(error.kind(), ErrorKind::Server(ExecAbort | NoPerm));
        let mut parts = self.parts.iter().zip(&self.replies);
        parts.any(|(part, reply)| {
            part.decider == Decider::Transaction
                && reply.as_ref().is_some_and(|reply| reply.as_ref().is_err_and(is_refusal))
        })
    }

    /// Whether any part has a reply.
    pub(super) fn is_answered(&self) -> bool {
        self.replies.iter().any(Option::is_some)
    }

    /// Whether the server had lost a script, and so has not run all parts. Only the first loss counts: what is lost
    /// although it was sent with its script has failed.
    pub(super) fn has_lost_script(&self) -> bool {
        !self.is_asked_again && self.replies.iter().flatten().any(|reply| reply.as_ref().is_err_and(is_lost))
    }

    /// Whether it is asked again, since the server had lost a script.
    pub(super) fn is_asked_again(&self) -> bool {
        self.is_asked_again
    }

    /// Whether the server had lost the script of the part that a group is in.
    pub(super) fn has_lost(&self, group: usize, batch: &Batch) -> bool {
        self.parts.iter().zip(&self.replies).any(|(part, reply)| {
            reply.as_ref().is_some_and(|reply| reply.as_ref().is_err_and(is_lost))
                && part.groups(batch).any(|(index, _)| index == group)
        })
    }

    /// Opens the parts again that the server has not run, since it had lost their script.
    pub(super) fn reopen_lost(&mut self) {
        if self.has_lost_script() {
            for reply in &mut self.replies {
                reply.take_if(|reply| reply.as_ref().is_err_and(is_lost));
            }
            self.is_asked_again = true;
        }
    }
}

/// Whether the server does not know the script.
fn is_lost(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ahash::RandomState;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::clock::Clock;
    use crate::quota::Quota;
    use crate::store::redis::answers::Answers;
    use crate::store::redis::batch::Check;
    use crate::store::redis::failure::Failure;
    use crate::store::redis::script::Scripts;
    use crate::store::redis::windows::Windows;
    use crate::store::{Counter, Operation};

    /// A call that takes one unit from each key, each known to have used 1 of 10.
    struct Asked {
        scripts: Scripts,
        batch: Batch,
        windows: Windows,
        question: Question,
        wire: Wire,
        server: DuplexStream,
    }

    impl Asked {
        fn of(keys: &[&str]) -> Self {
            Self::new(keys, false)
        }

        /// The same, asked of a cluster's node.
        fn sharded(keys: &[&str]) -> Self {
            Self::new(keys, true)
        }

        fn new(keys: &[&str], is_sharded: bool) -> Self {
            let random = RandomState::with_seeds(1, 2, 3, 4);
            let (near, server) = duplex(1024);
            let mut wire = Wire::over(Box::pin(near), String::new());
            let scripts = Scripts::new(Clock::default(), Duration::from_secs(1), is_sharded);
            let (mut batch, mut windows) = (Batch::default(), Windows::new());
            for key in keys {
                let counter = [Counter::new(key, Quota::per_minute(10))];
                let check = Check::new(&random, Operation::Take, &counter);
                batch.add(&check).expect("there is room");
                windows.learn(check.hashes[0], &counter[0], 0, Duration::from_secs(50), 1);
            }
            let question = scripts.ask(wire.begin_call(), &batch, &mut windows, 0, true);
            Self { scripts, batch, windows, question, wire, server }
        }

        /// Sends the call, and returns what the server receives.
        async fn sends(&mut self) -> String {
            self.wire.push().await;
            let mut received = vec![0; 1024];
            let length = self.server.read(&mut received).await.expect("it is sent");
            String::from_utf8_lossy(&received[..length]).into_owned()
        }

        /// Hears what the server says, byte by byte, and gives up waiting after each.
        async fn hears(&mut self, says: &str) {
            let mut awaited = self.question.awaited(&self.batch);
            for (index, byte) in says.bytes().enumerate() {
                self.server.write_all(&[byte]).await.expect("it is read");
                let heard = tokio::select! {
                    biased;
                    heard = self.question.hear(&mut self.wire, &self.batch) => Some(heard),
                    () = std::future::ready(()) => None,
                };
                assert_eq!(heard, if index + 1 == says.len() { Some(Ok(())) } else { None });
                let still = self.question.awaited(&self.batch);
                assert!(still == awaited || still + 1 == awaited, "{still} after {awaited}");
                awaited = still;
            }
            assert_eq!(awaited, 0);
        }

        fn answers(self) -> Answers {
            let Self { scripts, batch, mut windows, question, .. } = self;
            scripts.answers(question, 0, Failure::NoConnection, &batch, &mut windows).expect("they are read")
        }
    }

    /// However often the wait is given up; and checks that share a transaction are each told their own result.
    #[tokio::test]
    async fn the_answers_of_a_transaction_are_heard_one_after_the_other() {
        for (nothing, refused) in [("$-1", "-WRONGTYPE no"), ("_", "-ERR not an integer")] {
            let mut asked = Asked::of(&["a", "b", "c"]);
            let commands = asked.sends().await;
            assert_eq!(commands.matches("INCRBY").count(), 3, "{commands}");
            let queued = "+QUEUED\r\n".repeat(6);
            let executed = format!("{nothing}\r\n:2\r\n{nothing}\r\n:11\r\n{nothing}\r\n{refused}\r\n");
            asked.hears(&format!("+OK\r\n{queued}*6\r\n{executed}")).await;

            assert!(asked.question.settle(&asked.batch) && !asked.question.has_lost_script());
            asked.scripts.ask_again(
                asked.wire.begin_call(),
                &asked.batch,
                &mut asked.question,
                Duration::ZERO,
            );
            let commands = asked.sends().await;
            assert_eq!(commands.matches("EVALSHA").count(), 2, "{commands}");
            assert!(commands.contains("$2\r\n11\r\n$5\r\n51000\r\n"), "what came of it: {commands}");
            asked.hears("*2\r\n:-11\r\n:49000\r\n*1\r\n$7\r\nERR no!\r\n").await;

            assert!(!asked.question.settle(&asked.batch));
            let answers = asked.answers();
            assert_eq!([0, 1].map(|group| answers.passed(group).ok()), [Some(1), Some(0)]);
            assert!(answers.passed(2).is_err());
        }
    }

    /// Otherwise it would be asked elsewhere, and charged there as well.
    #[tokio::test]
    async fn what_is_charged_is_decided_though_its_key_moves_before_it_is_put_right() {
        for put_right in ["-MOVED 1 127.0.0.1:2\r\n", ""] {
            let mut asked = Asked::sharded(&["a", "a", "b"]);
            asked.sends().await;
            let refused = "-MOVED 2 127.0.0.1:2\r\n".repeat(2);
            let executed = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n:11\r\n";
            asked.hears(&format!("{executed}+OK\r\n{refused}-EXECABORT no\r\n")).await;
            assert!(asked.question.settle(&asked.batch) && !asked.question.is_decided());
            if !put_right.is_empty() {
                asked.scripts.ask_again(
                    asked.wire.begin_call(),
                    &asked.batch,
                    &mut asked.question,
                    Duration::ZERO,
                );
                asked.sends().await;
                asked.hears(put_right).await;
                assert!(!asked.question.settle(&asked.batch));
            }
            let answers = asked.answers();
            assert_eq!(answers.passed(0).ok(), Some(1));
            assert!(matches!(answers.passed(1), Err(Failure::Redis(_))));
        }
    }

    #[tokio::test]
    async fn what_is_refused_first_is_why_a_transaction_was() {
        for (says, code) in [
            ("-NOPERM no\r\n+QUEUED\r\n+QUEUED\r\n-ERR EXEC without MULTI\r\n", Some("NOPERM")),
            ("+OK\r\n-OOM no\r\n-ASK 1 127.0.0.1:2\r\n-EXECABORT no\r\n", Some("OOM")),
            ("+OK\r\n+QUEUED\r\n+QUEUED\r\n-EXECABORT no\r\n", Some("EXECABORT")),
            ("+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n:1\r\n", None),
        ] {
            let mut asked = Asked::of(&["a"]);
            asked.sends().await;
            asked.hears(says).await;
            assert!(!asked.question.settle(&asked.batch), "nothing is asked again");
            let answers = asked.answers();
            let failure = answers.passed(0).expect_err("it was refused");
            let Failure::Redis(error) = failure else { panic!("{failure:?}") };
            assert_eq!(error.code(), code);
        }
    }
}
