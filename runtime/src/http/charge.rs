//! The extractor that corrects what a request is charged, once its work is done.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::decisions::NoLayer;
use super::ledger::Ledger;
use crate::error::Error;

/// An extractor that adds to what this request has been charged, or gives some of it back.
///
/// ```
/// use axum::http::StatusCode;
/// use axum_rate_limit::{Charge, Error, rate_limit};
///
/// /// What is already there costs nothing.
/// #[rate_limit(name = "conversions", per_hour = 5)]
/// async fn convert(charge: Charge, document: String) -> Result<StatusCode, StatusCode> {
///     if document.is_empty() {
///         charge.give_back(1).await.map_err(|_: Error| StatusCode::SERVICE_UNAVAILABLE)?;
///     }
///     Ok(StatusCode::OK)
/// }
/// ```
///
/// Where the status or a header of the response tells whether to give back, use
/// [`give_back_if`](crate::Policy::give_back_if) instead.
///
/// This includes what the handler has checked with [`RequestLimiter`](crate::RequestLimiter), unless it did so after
/// the response, under each key that was not denied.
///
/// Each change is one atomic call of the store (up to 32 keys; more take several calls, as do several keys on a
/// cluster), and the response fields tell what is left after it. What is added can't be denied any more: it may exceed
/// the quota, and the requests that follow wait for it. What is given back is at most what this request was charged,
/// and only what of that still counts: once the window has ended, or the bucket has been refilled, there is nothing to
/// give back. Of several charges, the latest is given back first. If the store has gone away since, nobody gets
/// anything.
#[derive(Clone, Debug)]
#[must_use = "nothing is charged until `add` or `give_back` is called"]
pub struct Charge {
    ledger: Ledger,
    policy: Option<Cow<'static, str>>,
}

impl Charge {
    /// Charges `cost` more.
    ///
    /// # Errors
    ///
    /// If the store fails and the limiter or the policy [denies](crate::OnStoreError::Deny) in that case, if the
    /// memory that stands in for the store is full, or if this charge is [of](Self::of) a policy that does not exist.
    /// Of several keys, some may have been charged all the same.
    pub async fn add(&self, cost: u32) -> Result<(), Error> {
        Ok(self.ledger.add(self.policy()?, cost).await?)
    }

    /// Gives back `cost`, but at most what this request has been charged. If the store has gone away meanwhile, nothing
    /// is given back, which is no error unless the limiter or the policy [denies](crate::OnStoreError::Deny) then.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add). If the store was not asked at all, being overloaded or closed, and only one key of
    /// one policy is concerned (see [`of`](Self::of)), the call can be repeated. After any other failure it can't,
    /// since nobody knows whether the store has given it back.
    pub async fn give_back(&self, cost: u32) -> Result<(), Error> {
        Ok(self.ledger.give_back(self.policy()?, cost).await?)
    }

    /// Restricts `add` and `give_back` to one policy, if several were asked in this request. Without this call,
    /// they apply to all of them. If the policy was not asked, they do nothing; if no policy has that name, of those
    /// that attributes or [`Builder::declare`](crate::Builder::declare) declare or this request has asked, they fail.
    ///
    /// ```
    /// use axum_rate_limit::{Charge, Error, rate_limit};
    ///
    /// #[rate_limit(name = "requests", per_minute = 60)]
    /// #[rate_limit(name = "tokens", per_hour = 1_000)]
    /// async fn complete(charge: Charge) -> Result<String, Error> {
    ///     let (text, tokens) = ("…".to_owned(), 42);
    ///     charge.of("tokens").add(tokens).await?;
    ///     Ok(text)
    /// }
    /// ```
    pub fn of(&self, policy: impl Into<Cow<'static, str>>) -> Self {
        Self { policy: Some(policy.into()), ..self.clone() }
    }

    /// Returns the policy that this charge is restricted to, if any.
    fn policy(&self) -> Result<Option<&str>, Error> {
        if let Some(policy) = &self.policy
            && !self.ledger.has_asked(policy)
        {
            self.ledger.limiter().policies.find("Charge::of", policy)?;
        }
        Ok(self.policy.as_deref())
    }
}

impl<S: Sync> FromRequestParts<S> for Charge {
    type Rejection = NoLayer;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let ledger = Ledger::of(parts)?.clone();
        Ok(Self { ledger, policy: None })
    }
}
