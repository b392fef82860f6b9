//! The extractor that the attribute puts before a handler's own.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::request::Parts;

use super::Policies;
use super::ledger::Ledger;

/// Leave to run the handler, given by the policies of `P`.
///
/// Extractors run from left to right, and the one that reads the body is the last; so this one,
/// being the first, denies before anything else is done.
pub struct Permit<P>(PhantomData<fn() -> P>);

impl<S: Sync, P: Policies> FromRequestParts<S> for Permit<P> {
    type Rejection = Response;

    fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        let admission = Ledger::admit(parts, P::POLICIES);
        async move { admission.await.map(|()| Self(PhantomData)) }
    }
}

impl<P> fmt::Debug for Permit<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
