//! The layer: a ledger for each request, and response fields for each answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use smallvec::SmallVec;
use tower_layer::Layer;
use tower_service::Service;

use super::Headers;
use super::ledger::Ledger;
use crate::decision::Decision;
use crate::rate_limiter::RateLimiter;

/// A service whose requests a [`RateLimiter`] counts, where an attribute below asks for it.
#[derive(Clone, Debug)]
pub struct RateLimitService<S> {
    inner: S,
    limiter: RateLimiter,
}

impl<S> Layer<S> for RateLimiter {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService { inner, limiter: self.clone() }
    }
}

impl<S, Body, ResBody> Service<Request<Body>> for RateLimitService<S>
where
    S: Service<Request<Body>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let told = self.limiter.enter(request.extensions_mut());
        ResponseFuture { inner: self.inner.call(request), told }
    }
}

impl RateLimiter {
    /// Puts a ledger into a request, and tells whether the response is to tell of it.
    fn enter(&self, extensions: &mut Extensions) -> Option<Ledger> {
        let ledger = Ledger::new(self.clone());
        let told = (self.0.answers.headers != Headers::Off).then(|| ledger.clone());
        let outer = extensions.insert(ledger);
        // The same limiter may be a layer of a router and of one nested in it: the outer one writes.
        if let Some(outer) = outer.filter(|outer| outer.limiter().is(self)) {
            extensions.insert(outer);
            return None;
        }
        told
    }

    /// Whether `other` is a clone of this one.
    fn is(&self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}

pin_project! {
    /// The answer of a [`RateLimitService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // What the response has to tell of.
        told: Option<Ledger>,
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(ledger) = this.told {
            let decisions: SmallVec<[Decision; 2]> = ledger.entries().decisions().collect();
            ledger.limiter().0.answers.headers.write(&decisions, response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}
