//! The ledger of a request: its decisions so far, with one charge for each policy of its attributes, and what its
//! handler has checked by itself.

use std::collections::HashMap;
use std::fmt;
use std::ptr::fn_addr_eq;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use http::request::Parts;
use http::response;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::ResponseSettings;
use super::decisions::NoLayer;
use super::entries::{Entries, Entry, LatePart};
use super::holdings::Charged;
use super::policy_functions;
use crate::ask::{Ask, Asks};
use crate::error::StoreError;
use crate::inline_string::InlineString;
use crate::limiter::Limiter;
use crate::policy::GiveBackIf;
use crate::rate_limiter::RateLimiter;
use crate::store::remote::Concluded;
use crate::store::{ChargeTime, Operation, Outcome};

/// How many entries are charged or given back in one call of the store: a handler may have made any number of checks.
const MOST_AT_ONCE: usize = 32;

/// The record of one request, shared by the layer and by the permits and guards that the request meets.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Record>);

struct Record {
    rate_limiter: RateLimiter,
    entries: Mutex<Entries>,
    depends_on_answer: AtomicBool,
    is_answered: AtomicBool,
    /// Whether a handler's check has been denied, and the denial has not become a response.
    has_open_denial: AtomicBool,
}

/// What is given back, by where it was charged.
#[derive(Default)]
struct Returned {
    /// When it was taken out of the entries, by the limiter's clock.
    taken: u64,
    to_store: Asks,
    /// Charged in this process while the store was away.
    to_process: Asks,
    /// Perhaps charged in the store as well, after the deadline.
    late: Vec<(LatePart, Ask<'static>)>,
}

impl Ledger {
    pub(super) fn new(rate_limiter: RateLimiter) -> Self {
        Self(Arc::new(Record {
            rate_limiter,
            entries: Mutex::default(),
            depends_on_answer: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            has_open_denial: AtomicBool::new(false),
        }))
    }

    /// Returns the ledger of a request, if it has one.
    pub(super) fn around(parts: &Parts) -> Option<&Self> {
        parts.extensions.get()
    }

    /// Returns the ledger of a request for its handler. A function of a policy gets none, since it runs before
    /// anything is decided.
    pub(super) fn of(parts: &Parts) -> Result<&Self, NoLayer> {
        let ledger = Self::around(parts).filter(|_| !policy_functions::are_running());
        ledger.ok_or(NoLayer)
    }

    pub(super) fn rate_limiter(&self) -> &RateLimiter {
        &self.0.rate_limiter
    }

    /// Returns the core of the rate limiter.
    pub(super) fn limiter(&self) -> &Limiter {
        &self.rate_limiter().0.limiter
    }

    /// Returns the response settings of the rate limiter.
    pub(super) fn response_settings(&self) -> &ResponseSettings {
        &self.rate_limiter().0.answers
    }

    /// Whether somebody works on the entries.
    pub(super) fn is_locked(&self) -> bool {
        self.0.entries.is_locked()
    }

    /// Runs `work` on the entries, under the lock.
    pub(super) fn with_entries<T>(&self, work: impl FnOnce(&mut Entries) -> T) -> T {
        work(&mut self.0.entries.lock())
    }

    /// Whether this request has been checked under the policy of that name.
    pub(super) fn has_asked(&self, policy: &str) -> bool {
        self.with_entries(|entries| {
            entries.decided().any(|entry| entry.is_of(Some(policy)))
                || entries.checks().is_some_and(|checks| checks.has(policy))
        })
    }

    /// Charges this request `cost` more under `policy`, or under all its policies if that is `None`.
    pub(super) async fn add(&self, policy: Option<&str>, cost: u32) -> Result<(), StoreError> {
        let asks: Asks = self.with_entries(|entries| {
            let of_policy = entries.passed().filter(|entry| entry.is_of(policy));
            of_policy.filter_map(|entry| entry.ask_for(cost)).collect()
        });
        // On a cluster each key is charged by itself, and what comes of it may differ.
        let of_one_call = if self.limiter().store.is_sharded() { 1 } else { MOST_AT_ONCE };
        let mut result = Ok(());
        for asks in asks.chunks(MOST_AT_ONCE) {
            let calls = asks.chunks(of_one_call).map(|asks| self.add_in_one_call(asks));
            result = join_all(calls).await.into_iter().fold(result, Result::and);
        }
        result
    }

    /// Charges `asks` in one call of the store, and records what came of it.
    async fn add_in_one_call(&self, asks: &[Ask<'_>]) -> Result<(), StoreError> {
        let asked = self.limiter().clock.now_micros();
        let Concluded { outcome, late } = self.limiter().decide(Operation::Add, asks).await;
        let result = outcome.map(|outcome| self.note(Some(asked), asks, outcome));
        if let Some(late) = late {
            self.with_entries(|entries| entries.note_late_addition(asks, &Arc::new(late)));
        }
        result
    }

    /// Gives back `cost`, but at most what this request has been charged, under `policy` or under all its
    /// policies.
    pub(super) async fn give_back(&self, policy: Option<&str>, cost: u32) -> Result<(), StoreError> {
        // A key may have several entries.
        let mut left: HashMap<InlineString, u32> = HashMap::new();
        let returned = self.take_out(|entry| {
            if !entry.is_of(policy) {
                return 0;
            }
            let left = left.entry(entry.ask.key.clone()).or_insert(cost);
            let taken = entry.held().min(*left);
            *left -= taken;
            taken
        });
        self.give_back_all(returned).await
    }

    /// Notes that the response decides whether the charges stay.
    pub(super) fn depend_on_answer(&self) {
        self.0.depends_on_answer.store(true, Ordering::Relaxed);
    }

    /// Whether the response decides if the charges stay.
    pub(super) fn depends_on_answer(&self) -> bool {
        self.0.depends_on_answer.load(Ordering::Relaxed)
    }

    /// Notes that a handler's check was denied, and that the denial is still to become a response.
    pub(super) fn open_denial(&self) {
        self.0.has_open_denial.store(true, Ordering::Relaxed);
    }

    /// Notes that the denial of a handler's check has become a response.
    pub(super) fn close_denial(&self) {
        self.0.has_open_denial.store(false, Ordering::Relaxed);
    }

    /// Whether the denial of a handler's check has not become a response.
    pub(super) fn has_open_denial(&self) -> bool {
        self.0.has_open_denial.load(Ordering::Relaxed)
    }

    /// Notes that the response has been made.
    pub(super) fn end(&self) {
        self.0.is_answered.store(true, Ordering::Relaxed);
    }

    /// Whether the response has been made, so that nobody is told what is decided from now on.
    pub(super) fn is_answered(&self) -> bool {
        self.0.is_answered.load(Ordering::Relaxed)
    }

    /// Gives back all that this request was charged under policies whose `give_back_if` accepts the response.
    pub(super) fn give_back_for(self, answer: &response::Parts) -> impl Future<Output = ()> + Send + use<> {
        let functions: SmallVec<[GiveBackIf; 1]> = self.with_entries(|entries| {
            let charged = entries.decided().filter(|entry| entry.is_charged());
            let mut functions = SmallVec::new();
            for function in charged.filter_map(|entry| entry.ask.policy.give_back_function()) {
                if !contains(&functions, function) {
                    functions.push(function);
                }
            }
            functions
        });
        // Called without the lock, since these functions may ask for what is under it.
        let accept: SmallVec<[GiveBackIf; 1]> =
            functions.into_iter().filter(|is_given_back| is_given_back(answer)).collect();
        let is_given_back = |entry: &Entry| {
            entry.ask.policy.give_back_function().is_some_and(|function| contains(&accept, function))
        };
        let returned = self.take_out(|entry| if is_given_back(entry) { u32::MAX } else { 0 });
        async move {
            // The response is sent all the same; the log says why the store failed.
            let _ = self.give_back_all(returned).await;
        }
    }

    /// Takes out of each entry what is given back of its charge: at most the amount that `cost` returns for it.
    fn take_out(&self, mut cost: impl FnMut(&Entry) -> u32) -> Returned {
        let now = self.limiter().clock.now_micros();
        self.with_entries(|entries| {
            let mut returned = Returned { taken: now, ..Returned::default() };
            // From the latest first, which tells the client where its key stands.
            for entry in entries.decided_mut().rev() {
                let cost = cost(entry);
                // Taken out at once, so that no other call gives it back meanwhile.
                let shares = self.limiter().store.shares(entry.ask.quotas());
                let (holdings, late) = entry.take(cost, &shares);
                for holding in holdings {
                    let Charged { in_store, in_process } = holding.charged;
                    returned.to_store.extend(entry.ask_to_return(in_store, &holding, now));
                    returned.to_process.extend(entry.ask_to_return(in_process, &holding, now));
                }
                let late = late.into_iter().filter_map(|(late, cost)| Some((late, entry.ask_for(cost)?)));
                returned.late.extend(late);
            }
            returned
        })
    }

    /// Gives everything back to where it was charged, even if the store has gone away or come back since.
    async fn give_back_all(&self, returned: Returned) -> Result<(), StoreError> {
        let Returned { taken, to_store, to_process, late } = returned;
        let limiter = self.limiter();
        for (late, ask) in &late {
            ask.renounce(&late.check, late.first, late.cost, late.returned);
        }
        if !to_process.is_empty() {
            self.note(None, &to_process, limiter.give_back_in_process(&to_process));
        }
        // All at once, so that nothing is left unasked if the client hangs up meanwhile.
        let chunks = to_store.chunks(MOST_AT_ONCE).map(async |asks| (asks, limiter.give_back(asks).await));
        let mut result = Ok(());
        for (asks, given_back) in join_all(chunks).await {
            let given_back = given_back.or_else(|error| {
                // Of several, some may have been given back. A single one that the store was not asked for can be
                // tried again.
                if let ([ask], true) = (asks, error.was_not_sent()) {
                    self.put_back(ask, taken);
                }
                limiter.excuse(asks, error)
            });
            match given_back {
                Ok(outcome) => self.note(None, asks, outcome),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Puts back into the entry what was `taken` out of it then, and the store was not asked to take.
    fn put_back(&self, ask: &Ask<'_>, taken: u64) {
        self.with_entries(|entries| {
            if let Some(entry) = entries.about_mut(ask).next() {
                entry.put_back(ask, taken);
            }
        });
    }

    /// Records in the entries what came of charging, if it was `asked` for then, or of giving back.
    fn note(&self, asked: Option<u64>, asks: &[Ask<'_>], mut outcome: Outcome) {
        let answered = self.limiter().clock.now_micros();
        let time = asked.map(|asked| ChargeTime { asked, answered });
        self.with_entries(|entries| {
            for ask in asks {
                let part = ask.split_part_off(&mut outcome);
                let mut charge = time.filter(|_| !part.readings().is_empty());
                for entry in entries.about_mut(ask) {
                    // Only one of them, if there are several.
                    if let Some(time) = charge.take() {
                        entry.charge(ask.cost, &part, time);
                    }
                    entry.update(&part);
                }
            }
        });
    }
}

/// Whether `function` is one of `functions`. Two that are the same machine code accept the same answers.
fn contains(functions: &[GiveBackIf], function: GiveBackIf) -> bool {
    functions.iter().any(|other| fn_addr_eq(*other, function))
}

/// Tells nothing, since keys are personal data, and users log the arguments of their handlers.
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}
