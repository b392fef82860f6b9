//! The extractor that lets a handler check what only the handler knows.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::admission::longest_wait;
use super::decisions::{Decisions, NoLayer};
use super::denial::{Denial, Denying};
use super::denied::Reason;
use super::entries::LatePart;
use super::faults::shared_without_peer;
use super::ledger::Ledger;
use super::{identity, policy_functions};
use crate::ask::{Ask, Asks};
use crate::decision::Decision;
use crate::in_force::Effective;
use crate::key::Key;
use crate::policy::Policy;
use crate::rate_limiter::RateLimiter;
use crate::store::remote::Concluded;
use crate::store::{ChargeTime, Operation};

/// An extractor that checks policies in a handler, for keys that only the handler knows: a name in the body, say.
///
/// A denial is answered like that of an attribute, with the policy's status and text, `retry-after` and the response
/// fields.
///
/// ```
/// use axum::Json;
/// use axum::http::StatusCode;
/// use axum_rate_limit::{Denial, Policy, RequestLimiter, rate_limit};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct LogIn {
///     user: String,
///     password: String,
/// }
///
/// /// Five failed log-ins an hour as one user, wherever they come from. (Whoever knows a user's name can use them up:
/// /// leave that user another way in.)
/// const FAILED_LOG_INS: Policy =
///     Policy::new("failed-log-ins").per_hour(5).give_back_if(|response| response.status.is_success());
///
/// #[rate_limit(name = "log-ins", per_minute = 30)] // of one client
/// async fn log_in(limiter: RequestLimiter, Json(log_in): Json<LogIn>) -> Result<StatusCode, Denial> {
///     limiter.check(&FAILED_LOG_INS, log_in.user.to_lowercase()).await?;
///     let is_right = log_in.password == "sesame";
///     Ok(if is_right { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
/// }
/// ```
///
/// Unlike a check by [`RateLimiter::check`](crate::RateLimiter::check), these are part of the request:
///
/// * The functions of the policy are called ([`skip_if`](Policy::skip_if), [`quotas_by`](Policy::quotas_by),
///   [`cost_by`](Policy::cost_by), [`give_back_if`](Policy::give_back_if)), except for those of its key. They see the
///   request as it was when this was extracted.
/// * [`Decisions`] and the response fields tell what was decided. If one policy is checked under several keys, the
///   fields tell of the one that binds first. (They tell whoever asks how much is left of that account or phone.
///   Where nobody may know, use [`Headers::Off`](crate::Headers::Off).)
/// * [`Charge`](crate::Charge) changes what was charged under each key that was not denied, except after the response.
///
/// Each call is charged, whatever has been checked before in the same request. A denial takes nothing, but what the
/// attributes and earlier calls have charged stays. A check that is abandoned before it is decided, or made after the
/// response, may be charged, and is not given back. What is checked until the response is remembered as long as this
/// value lives, so a handler that checks the items of a list should bound it. What is checked after the response, in a
/// socket or a stream, is counted and not remembered.
///
/// Policies that no attribute declares can be amended once they are [declared](crate::Builder::declare).
#[derive(Clone)]
#[must_use = "nothing is limited until `check` is called"]
pub struct RequestLimiter {
    ledger: Ledger,
    request: Arc<Parts>,
}

impl RequestLimiter {
    /// Checks `policy` for `key`, and charges the cost if the policy allows it.
    ///
    /// `key` takes the place of what the policy's own [key](Policy::key) would read from the request. Write it in one
    /// way only (in lower case, say), or each spelling has a quota of its own. Texts are stored as they are, unless
    /// they are long; a secret belongs in [`Key::header`], which is hashed. In place of an empty text the client's
    /// address is used, as for a request that lacks a part of the key (without a peer address, all share one quota, and
    /// the log says what to add). The resource or the route is the request's if
    /// the policy has a quota for each, unless `key` names another.
    ///
    /// # Errors
    ///
    /// Returns the denial if the policy denies, or if the store fails and the policy or the limiter is set to
    /// [deny](crate::OnStoreError::Deny) in that case. It is a response, so a handler can return it with `?`.
    pub async fn check(&self, policy: &Policy, key: impl Into<Key>) -> Result<(), Denial> {
        self.decide(self.ask(policy, key.into()).into_iter().collect()).await
    }

    /// Does the same with a cost that the handler knows, whatever the policy's [cost](Policy::cost) is.
    ///
    /// ```
    /// use axum_rate_limit::{Denial, Policy, RequestLimiter};
    ///
    /// const RECIPIENTS: Policy = Policy::new("recipients").per_day(1_000).status(429);
    ///
    /// async fn send(limiter: RequestLimiter, recipients: String) -> Result<(), Denial> {
    ///     let count = u32::try_from(recipients.lines().count()).unwrap_or(u32::MAX);
    ///     limiter.check_with_cost(&RECIPIENTS, "newsletter", count).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check). The denial of a cost that no quota ever allows says so, and has no `retry-after`.
    pub async fn check_with_cost(
        &self,
        policy: &Policy,
        key: impl Into<Key>,
        cost: u32,
    ) -> Result<(), Denial> {
        let ask = self.ask(policy, key.into()).map(|ask| Ask { cost, ..ask });
        self.decide(ask.into_iter().collect()).await
    }

    /// Checks several policies in one call of the store (on a cluster, one for each policy: see the README): all must
    /// allow, and a denial by one takes nothing from any. Of one policy and key, the costs add up. It is for a
    /// handful of checks; for the items of a list, call [`check`](Self::check).
    ///
    /// Check no key under two sets of quotas at once: neither check would see the other's charge.
    ///
    /// ```
    /// use axum_rate_limit::{Denial, Policy, RequestLimiter};
    ///
    /// const SENDERS: Policy = Policy::new("senders").per_hour(20);
    /// const RECIPIENTS: Policy = Policy::new("recipients").per_hour(5);
    ///
    /// async fn send(limiter: &RequestLimiter, sender: &str, recipient: &str) -> Result<(), Denial> {
    ///     limiter.check_all([(&SENDERS, sender), (&RECIPIENTS, recipient)]).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check). If several deny, the denial is that of the longest wait.
    pub async fn check_all<'p, K: Into<Key>>(
        &self,
        checks: impl IntoIterator<Item = (&'p Policy, K)>,
    ) -> Result<(), Denial> {
        let mut asks = Asks::new();
        for (policy, key) in checks {
            let Some(ask) = self.ask(policy, key.into()) else { continue };
            match asks.iter_mut().find(|other| other.is_same(&ask)) {
                Some(same) => same.cost = same.cost.saturating_add(ask.cost),
                None => asks.push(ask),
            }
        }
        self.decide(asks).await
    }

    /// Returns the client's address: see [`client_ip`](crate::client_ip).
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.rate_limiter().client_ip(&self.request)
    }

    /// Returns the rate limiter around this handler, to [`peek`](RateLimiter::peek) or [`reset`](RateLimiter::reset),
    /// say.
    pub fn rate_limiter(&self) -> &RateLimiter {
        self.ledger.rate_limiter()
    }

    /// Returns what has been decided about this request so far, but not after the response, by attributes and by
    /// [`check`](Self::check).
    pub fn decisions(&self) -> Decisions {
        self.ledger.decisions()
    }

    /// Returns what to ask `policy` about this request and `key`; `None` if the policy skips the request.
    fn ask(&self, policy: &Policy, key: Key) -> Option<Ask<'static>> {
        let (request, limiter) = (&*self.request, self.ledger.limiter());
        limiter.warn_of_conflict(policy);
        let running = policy_functions::Running::begin();
        let ask = self.ledger.ask_without_key(request, policy).map(Ask::into_owned);
        drop(running);
        let Some(mut ask) = ask else {
            self.ledger.with_entries(|entries| entries.note_checked(policy.name()));
            return None;
        };
        let client = || {
            let ip = self.client_ip();
            if ip.is_none() {
                shared_without_peer(policy.name());
            }
            ip
        };
        let key = key.or_client(client).narrowed_to(&identity::target(request, &ask.policy));
        ask.key = key.in_store(&limiter.key_prefix, &ask.policy, limiter.network_bits);
        Some(ask)
    }

    /// Asks all of `asks` at once.
    async fn decide(&self, asks: Asks) -> Result<(), Denial> {
        let limiter = self.ledger.limiter();
        let asked = limiter.clock.now_micros();
        let Concluded { outcome, late } = limiter.decide(Operation::Take, &asks).await;
        let time = ChargeTime { asked, answered: limiter.clock.now_micros() };
        let mut outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                asks.iter().for_each(Ask::report_refused);
                // The first that can deny stands for all that were asked together.
                let first = asks.iter().find(|ask| !ask.policy.is_shadow()).or(asks.first());
                let Some(policy) = first.map(|ask| ask.policy.clone()) else { return Ok(()) };
                return Err(self.denial(policy, Reason::Store(error), Vec::new()));
            }
        };
        let (late, mut first) = (late.map(Arc::new), 0);
        // A socket may go on checking any number of keys.
        let is_told = !self.ledger.is_answered();
        let mut denying: Vec<(Decision, Effective<'static>)> = Vec::new();
        self.ledger.with_entries(|entries| {
            for ask in asks {
                let part = ask.split_part_off(&mut outcome);
                let decision = ask.decision(&part);
                if !decision.is_allowed() {
                    denying.push((decision, ask.policy.clone()));
                }
                let late = late.as_ref().map(|check| LatePart::of(&ask, check, first));
                first += ask.counter_count();
                if is_told {
                    entries.enter_checked(ask, part, late, time);
                } else {
                    ask.report(&part);
                    entries.note_checked(ask.policy.name());
                }
            }
        });
        let Some((longest, policy)) = longest_wait(&denying).cloned() else { return Ok(()) };
        let deny = denying.into_iter().map(|(decision, _)| decision).collect();
        Err(self.denial(policy, Reason::Quota(Box::new(longest)), deny))
    }

    fn denial(&self, policy: Effective<'static>, reason: Reason, deny: Vec<Decision>) -> Denial {
        Denial::new(Denying {
            ledger: self.ledger.clone(),
            request: Arc::clone(&self.request),
            policy,
            reason,
            deny,
        })
    }
}

/// Tells nothing of the request, which may hold secrets, since users log the arguments of their handlers.
impl fmt::Debug for RequestLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimiter").finish_non_exhaustive()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestLimiter {
    type Rejection = NoLayer;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let ledger = Ledger::of(parts)?.clone();
        Ok(Self { ledger, request: Arc::new(parts.clone()) })
    }
}
