//! What decides, and how a batch is put to it: scripts, but for what a [`transaction`] can do.

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use rmp::encode::{write_array_len, write_sint, write_uint};
use smallvec::SmallVec;

use super::answers::{Answers, unexpected};
use super::batch::Batch;
use super::connection::{Requests, Wire};
use super::failure::node_of_cluster;
use super::key::StoredKey;
use super::part::{By, Charged, Part, units};
use super::transaction;
use super::windows::Windows;
use crate::algorithm::{Algorithm, Rule};
use crate::clock::Clock;
use crate::store::{Counter, Operation};

/// How many numbers tell a rule, and what has been charged: see `take.lua`.
const TAKE_RULE_NUMBERS: usize = 3;
const CHARGED_NUMBERS: usize = 2;
/// How many numbers tell a rule: see `apply.lua`.
const RULE_NUMBERS: usize = 6;
/// How many tell a check, and each of its counters.
const CHECK_NUMBERS: usize = 3;
const COUNTER_NUMBERS: usize = 2;

/// The scripts, by which all servers decide.
pub(super) struct Decider {
    /// Takes from fixed windows, one for each check.
    take: Script,
    /// Does whatever is asked.
    apply: Script,
    clock: Clock,
    /// How long an answer is waited for at most.
    timeout: Duration,
    /// Whether no script spans two checks.
    is_sharded: bool,
}

impl Decider {
    pub(super) fn new(clock: Clock, timeout: Duration, is_sharded: bool) -> Self {
        let (take, apply) = (include_str!("take.lua"), include_str!("apply.lua"));
        Self { take: Script::new(take), apply: Script::new(apply), clock, timeout, is_sharded }
    }

    /// Finds out whether a server has transactions, and makes the scripts known to it.
    pub(super) async fn meet(&self, wire: &mut Wire) -> RedisResult<()> {
        wire.try_transaction().await?;
        self.load(wire).await
    }

    /// Makes the scripts known to a server.
    pub(super) async fn load(&self, wire: &mut Wire) -> RedisResult<()> {
        for script in [&self.take, &self.apply] {
            script.load_async(wire).await?;
        }
        Ok(())
    }

    /// Asks for a decision of all of `batch` at `now`, in microseconds of the clock; a server that `transacts` has
    /// transactions.
    pub(super) fn ask(
        &self,
        requests: &mut Requests,
        batch: &Batch,
        windows: &mut Windows,
        now: u64,
        transacts: bool,
    ) -> Question {
        windows.forget_resets(batch);
        let mut parts = if self.is_sharded { Part::each(batch) } else { Part::by_script(batch) };
        for part in &mut parts {
            part.look_up(batch, windows, now, transacts);
        }
        let replies = parts.iter().map(|_| None).collect();
        let question = Question { parts, replies, now, heard: 0, refused: None, is_asked_again: false };
        self.put(requests, batch, &question);
        question
    }

    /// Asks anew for what is [open](Question::reopen) again. A server that had lost a script [knows](Self::load) it
    /// now.
    pub(super) fn ask_again(&self, requests: &mut Requests, batch: &Batch, question: &mut Question) {
        if question.has_lost() {
            for reply in &mut question.replies {
                reply.take_if(|reply| reply.as_ref().is_err_and(is_lost));
            }
            question.is_asked_again = true;
        }
        self.put(requests, batch, question);
    }

    /// What the answers to `question` mean, once all are there.
    pub(super) fn answers(
        &self,
        question: Question,
        batch: &Batch,
        windows: &mut Windows,
    ) -> RedisResult<Answers> {
        let Question { parts, replies, now, .. } = question;
        let of_one = |error: RedisError| node_of_cluster(&error).unwrap_or(error);
        let told = |reply: RedisResult<Value>| if self.is_sharded { reply } else { reply.map_err(of_one) };
        let answered = parts.into_iter().zip(replies);
        let replies = answered.filter_map(|(part, reply)| Some((part, told(reply?))));
        Answers::read(batch, replies, windows, now)
    }

    /// Asks for a decision of all parts that have not been answered.
    fn put(&self, requests: &mut Requests, batch: &Batch, question: &Question) {
        let parts = question.parts.iter().zip(&question.replies);
        for (part, _) in parts.filter(|(_, reply)| reply.is_none()) {
            if part.is_asking(batch) {
                requests.command("ASKING", 0);
            }
            if part.by == By::Transaction {
                let charges = part.fixed(batch).zip(&part.known);
                transaction::put(requests, charges.map(|((group, counter), known)| (group, counter, *known)));
            } else {
                self.call(requests, batch, part);
            }
        }
    }

    /// Has a script decide `part`.
    fn call(&self, requests: &mut Requests, batch: &Batch, part: &Part) {
        let rules = Rules::of(part, batch);
        let count = part.counters(batch).count();
        let (script, arguments) = match part.by {
            By::Take { charged } => {
                let rules = rules.0.len();
                let of_checks = count * (1 + usize::from(rules > 1));
                (&self.take, of_checks + rules * TAKE_RULE_NUMBERS + charged.map_or(0, |_| CHARGED_NUMBERS))
            }
            _ => (&self.apply, 1),
        };
        requests.command("EVALSHA", 2 + count + arguments);
        requests.argument(script.get_hash().as_bytes());
        requests.number(count);
        for counter in part.counters(batch) {
            StoredKey::from(&counter).write(requests);
        }
        if let By::Take { charged } = part.by {
            take(requests, batch, part, &rules);
            if let Some(Charged { used, left }) = charged {
                // What was told of its end was on the way for less than the timeout.
                requests.number(used);
                requests.number(millis(left.saturating_add(self.timeout)));
            }
        } else {
            requests.argument(&self.plan(batch, part, &rules));
        }
    }

    /// What `apply.lua` is told besides the keys.
    fn plan(&self, batch: &Batch, part: &Part, rules: &Rules<'_>) -> Vec<u8> {
        let checks =
            part.groups(batch).count() * CHECK_NUMBERS + part.counters(batch).count() * COUNTER_NUMBERS;
        let mut plan = Plan::new(2 + rules.0.len() * RULE_NUMBERS + checks);
        match self.clock.injected_micros() {
            Some(micros) => plan.put(micros),
            None => plan.put_none(),
        }
        plan.put(rules.0.len() as u64);
        for asked in &rules.0 {
            let rule = Rule::new(asked.quota, asked.algorithm);
            plan.put(number(asked.algorithm));
            plan.put(rule.limit);
            plan.put(rule.window);
            plan.put(asked.cost.into());
            plan.put(rule.burst());
            plan.put(asked.shadow.into());
        }
        for (_, group) in part.groups(batch) {
            let counters = batch.counters_of(group);
            plan.put(code(group.operation));
            plan.put(group.count.into());
            plan.put(counters.len() as u64);
            for counter in counters {
                plan.put(rules.number_of(&counter).into());
                plan.put(counter.policy as u64);
            }
        }
        plan.bytes
    }
}

/// What has been asked of a server.
#[derive(Clone)]
pub(super) struct Question {
    parts: Vec<Part>,
    /// What was answered to each part so far.
    replies: Vec<Option<RedisResult<Value>>>,
    /// When it was asked, in microseconds of the clock.
    now: u64,
    /// How many of the answers have been heard that come before the next that decides.
    heard: usize,
    /// What was refused first of the transaction they are of.
    refused: Option<RedisError>,
    /// Whether it has been asked again after a script was lost.
    is_asked_again: bool,
}

impl Question {
    /// Waits for the answers. If it is given up, it may go on later.
    pub(super) async fn hear(&mut self, wire: &mut Wire, batch: &Batch) -> RedisResult<()> {
        for (part, reply) in self.parts.iter().zip(&mut self.replies).filter(|(_, reply)| reply.is_none()) {
            let is_transaction = part.by == By::Transaction;
            while self.heard < part.answers_before(batch) {
                let answer = wire.answer().await?.extract_error();
                self.heard += 1;
                // Should `ASKING` be refused, so is what it was sent for.
                if let (true, None, Err(error)) = (is_transaction, &self.refused, answer) {
                    self.refused = Some(error);
                }
            }
            let answer = wire.answer().await?;
            self.heard = 0;
            *reply = Some(match (self.refused.take(), answer) {
                (Some(refused), _) => Err(refused),
                // What one of its commands was refused is no matter of the others.
                (None, executed @ Value::Array(_)) if is_transaction => Ok(executed),
                (None, answer) => answer.extract_error(),
            });
        }
        Ok(())
    }

    /// How many answers are still to come.
    pub(super) fn awaited(&self, batch: &Batch) -> usize {
        let unanswered = self.parts.iter().zip(&self.replies).filter(|(_, reply)| reply.is_none());
        unanswered.map(|(part, _)| part.answers_before(batch) + 1).sum::<usize>() - self.heard
    }

    /// Once all is answered: whether something is to be asked again, since the server had lost a script, or since
    /// a transaction has charged what it should not have, or could not.
    pub(super) fn reopen(&mut self, batch: &Batch) -> bool {
        let mut left = Vec::new();
        let parts = self.parts.iter_mut().zip(&mut self.replies);
        for (part, reply) in parts.filter(|(part, _)| part.by == By::Transaction) {
            let Some(Ok(Value::Array(executed))) = reply else { continue };
            *reply = Some(if executed.len() + 1 == part.answers_before(batch) {
                let (taken, of_part) = part.settle(batch, executed);
                left.extend(of_part);
                Ok(taken)
            } else {
                Err(unexpected())
            });
        }
        let is_open = !left.is_empty();
        self.replies.extend(left.iter().map(|_| None));
        self.parts.extend(left);
        is_open || self.has_lost()
    }

    /// The same with all answers, if what is [open](Self::reopen) again is only to put right what was charged.
    pub(super) fn decided(&self) -> Option<Self> {
        let mut decided = self.clone();
        let open = decided.parts.iter().zip(&mut decided.replies).filter(|(_, reply)| reply.is_none());
        for (part, reply) in open {
            let By::Take { charged: Some(Charged { used, left }) } = part.by else { return None };
            *reply = Some(Ok(Value::Array(vec![
                Value::Int(-used),
                Value::Int(i64::try_from(millis(left)).ok()?),
            ])));
        }
        if self.has_lost() { None } else { Some(decided) }
    }

    /// Whether the server had lost a script, and so has not run all. It may lose one once.
    pub(super) fn has_lost(&self) -> bool {
        !self.is_asked_again && self.replies.iter().flatten().any(|reply| reply.as_ref().is_err_and(is_lost))
    }
}

/// What `take.lua` is told besides the keys.
fn take(requests: &mut Requests, batch: &Batch, part: &Part, rules: &Rules<'_>) {
    for ((group, counter), known) in part.fixed(batch).zip(&part.known) {
        let units = units(group, &counter);
        requests.number(if known.is_some() { units } else { -units });
        if rules.0.len() > 1 {
            requests.number(rules.number_of(&counter));
        }
    }
    for rule in &rules.0 {
        requests.number(rule.quota.limit());
        requests.number(rule.cost);
        requests.number(rule.quota.window_millis());
    }
}

/// The rules of a part: one, or a few.
struct Rules<'a>(SmallVec<[Counter<'a>; 4]>);

impl<'a> Rules<'a> {
    fn of(part: &Part, batch: &'a Batch) -> Self {
        let mut rules = Self(SmallVec::new());
        for counter in part.counters(batch) {
            if rules.position(&counter).is_none() {
                rules.0.push(counter);
            }
        }
        rules
    }

    fn position(&self, counter: &Counter<'_>) -> Option<usize> {
        let rule = |counter: &Counter<'_>| (counter.quota, counter.algorithm, counter.cost, counter.shadow);
        self.0.iter().position(|known| rule(known) == rule(counter))
    }

    /// As the script counts, from 1.
    fn number_of(&self, counter: &Counter<'_>) -> u32 {
        self.position(counter).and_then(|index| u32::try_from(index + 1).ok()).unwrap_or_default()
    }
}

/// A list in MessagePack.
struct Plan {
    bytes: Vec<u8>,
}

// Writing to a vector does not fail.
impl Plan {
    fn new(items: usize) -> Self {
        let mut bytes = Vec::with_capacity(items * 5);
        let _ = write_array_len(&mut bytes, u32::try_from(items).unwrap_or(u32::MAX));
        Self { bytes }
    }

    fn put(&mut self, number: u64) {
        let _ = write_uint(&mut self.bytes, number);
    }

    fn put_none(&mut self) {
        let _ = write_sint(&mut self.bytes, -1);
    }
}

/// Whether the server does not know the script.
fn is_lost(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn code(operation: Operation) -> u64 {
    match operation {
        Operation::Take => 0,
        Operation::Peek => 1,
        Operation::Add => 2,
        Operation::GiveBack => 3,
        Operation::Reset => 4,
    }
}

fn number(algorithm: Algorithm) -> u64 {
    match algorithm {
        Algorithm::FixedWindow => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingLog => 3,
        Algorithm::TokenBucket { .. } => 4,
    }
}

#[cfg(test)]
mod tests {
    use ahash::RandomState;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::quota::Quota;
    use crate::store::redis::batch::Check;
    use crate::store::redis::failure::Failure;

    /// A call for one unit of each key, of which 1 of 10 is known to be used.
    struct Asked {
        decider: Decider,
        batch: Batch,
        windows: Windows,
        question: Question,
        wire: Wire,
        server: DuplexStream,
    }

    impl Asked {
        fn of(keys: &[&str]) -> Self {
            let random = RandomState::with_seeds(1, 2, 3, 4);
            let (near, server) = duplex(1024);
            let mut wire = Wire::over(Box::pin(near), 0, String::new());
            let decider = Decider::new(Clock::default(), Duration::from_secs(1), false);
            let (mut batch, mut windows) = (Batch::default(), Windows::new());
            for key in keys {
                let counter = [Counter::new(key, Quota::per_minute(10))];
                let check = Check::new(&random, Operation::Take, &counter);
                batch.add(&check).expect("there is room");
                windows.learn(check.hashes[0], &counter[0], 0, Duration::from_secs(50), 1);
            }
            let question = decider.ask(wire.call(), &batch, &mut windows, 0, true);
            Self { decider, batch, windows, question, wire, server }
        }

        /// What the server is asked.
        async fn sends(&mut self) -> String {
            self.wire.push().await;
            let mut received = vec![0; 1024];
            let length = self.server.read(&mut received).await.expect("it is sent");
            String::from_utf8_lossy(&received[..length]).into_owned()
        }

        /// Hears what the server says, character by character, of which each may be the last for now.
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

        fn answers(mut self) -> Answers {
            self.decider.answers(self.question, &self.batch, &mut self.windows).expect("they are read")
        }
    }

    /// However often it is given up to wait for the answers; and of those that share a transaction, each is told
    /// what came of it alone.
    #[tokio::test]
    async fn the_answers_of_a_transaction_are_heard_one_after_the_other() {
        for (nothing, refused) in [("$-1", "-WRONGTYPE no"), ("_", "-ERR not an integer")] {
            let mut asked = Asked::of(&["a", "b", "c"]);
            let commands = asked.sends().await;
            assert_eq!(commands.matches("INCRBY").count(), 3, "{commands}");
            let queued = "+QUEUED\r\n".repeat(6);
            let executed = format!("{nothing}\r\n:2\r\n{nothing}\r\n:11\r\n{nothing}\r\n{refused}\r\n");
            asked.hears(&format!("+OK\r\n{queued}*6\r\n{executed}")).await;

            assert!(asked.question.reopen(&asked.batch) && !asked.question.has_lost());
            asked.decider.ask_again(asked.wire.call(), &asked.batch, &mut asked.question);
            let commands = asked.sends().await;
            assert_eq!(commands.matches("EVALSHA").count(), 2, "{commands}");
            assert!(commands.contains("$2\r\n11\r\n$5\r\n51000\r\n"), "what came of it: {commands}");
            asked.hears("*2\r\n:-11\r\n:49000\r\n*1\r\n$7\r\nERR no!\r\n").await;

            assert!(!asked.question.reopen(&asked.batch));
            let answers = asked.answers();
            assert_eq!([0, 1].map(|group| answers.passed(group).ok()), [Some(1), Some(0)]);
            assert!(answers.passed(2).is_err());
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
            assert!(!asked.question.reopen(&asked.batch), "nothing is asked again");
            let answers = asked.answers();
            let failure = answers.passed(0).expect_err("it was refused");
            let Failure::Redis(error) = failure else { panic!("{failure:?}") };
            assert_eq!(error.code(), code);
        }
    }
}
