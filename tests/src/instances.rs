//! One or several instances of a service that share a store, as a single layer.

use std::ops::Deref;
use std::task::{Context, Poll, ready};

use axum::extract::Request;
use axum_rate_limit::{RateLimitService, RateLimiter};
use tower::{Layer, Service};

/// The limiters of all instances. As a layer, they serve each request by one of them at random, like a load
/// balancer. Everything else goes to the first limiter.
#[derive(Clone, Debug)]
pub struct Instances(Vec<RateLimiter>);

impl Instances {
    /// Returns the instances with these limiters, of which there must be at least one.
    pub fn of(limiters: impl IntoIterator<Item = RateLimiter>) -> Self {
        Self(limiters.into_iter().collect())
    }

    /// Calls `act` with the limiter of each instance.
    pub fn each(&self, act: impl FnMut(&RateLimiter)) {
        self.0.iter().for_each(act);
    }
}

impl Deref for Instances {
    type Target = RateLimiter;

    fn deref(&self) -> &RateLimiter {
        &self.0[0]
    }
}

impl<S: Clone> Layer<S> for Instances {
    type Service = Balanced<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Balanced(self.0.iter().map(|limiter| limiter.layer(inner.clone())).collect())
    }
}

/// A service with one or several instances.
#[derive(Clone, Debug)]
pub struct Balanced<S>(Vec<RateLimitService<S>>);

/// The instance that a request was sent to. The request stays there, whichever layers it passes.
#[derive(Clone, Copy)]
struct Chosen(usize);

impl<S> Service<Request> for Balanced<S>
where
    RateLimitService<S>: Service<Request>,
{
    type Response = <RateLimitService<S> as Service<Request>>::Response;
    type Error = <RateLimitService<S> as Service<Request>>::Error;
    type Future = <RateLimitService<S> as Service<Request>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        for instance in &mut self.0 {
            ready!(instance.poll_ready(context))?;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let chosen = request.extensions().get::<Chosen>().map(|Chosen(index)| *index);
        let index = chosen.unwrap_or_else(|| fastrand::usize(..self.0.len()));
        request.extensions_mut().insert(Chosen(index));
        self.0[index].call(request)
    }
}
