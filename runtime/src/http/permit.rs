//! The extractor that the attribute puts before a handler's own.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::request::Parts;

use super::Policies;
use super::admission::Admission;
use super::ledger::Ledger;

/// Permission to run the handler, granted by the policies of `P`.
///
/// Extractors run from left to right, and the one that reads the body is the last. This one is the first, so it
/// denies before anything else is done.
pub struct Permit<P>(PhantomData<fn() -> P>);

impl<S: Sync, P: Policies> FromRequestParts<S> for Permit<P> {
    type Rejection = Response;

    fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        PermitFuture { admission: Ledger::admit(parts, P::POLICIES), permit: PhantomData }
    }
}

/// The future of a [`Permit`]. It is usually ready at once, and then nothing is moved around.
struct PermitFuture<'a, P> {
    admission: Admission<'a>,
    permit: PhantomData<fn() -> P>,
}

impl<P> Future for PermitFuture<'_, P> {
    type Output = Result<Permit<P>, Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.admission).poll(context).map_ok(|()| Permit(PhantomData))
    }
}

impl<P> fmt::Debug for Permit<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
