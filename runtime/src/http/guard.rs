//! The layer that the attribute puts around the routes of a router.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodRouter, Route, Router};
use tower_layer::Layer;
use tower_service::Service;

use super::Policies;
use super::ledger::Ledger;
use crate::policy::Policy;

/// Puts the policies of `P` before every route of the router that `make` returns.
pub fn guard<P: Policies, R: Guarded>(make: impl FnOnce() -> R) -> R {
    make().guarded(GuardLayer { policies: P::POLICIES })
}

/// A router whose routes can be guarded.
#[diagnostic::on_unimplemented(
    message = "`#[rate_limit]` can't guard a `{Self}`",
    label = "this function must return `axum::Router` or `axum::routing::MethodRouter`",
    note = "put the attribute on a handler (`async fn`), or on a function that returns one of axum's routers, or \
            utoipa-axum's `OpenApiRouter` (feature `openapi-router`)"
)]
pub trait Guarded {
    /// Returns the same router, with `guard` before its routes.
    #[doc(hidden)]
    #[must_use]
    fn guarded(self, guard: GuardLayer) -> Self;
}

impl<S: Clone + Send + Sync + 'static> Guarded for Router<S> {
    fn guarded(self, guard: GuardLayer) -> Self {
        // Axum panics if a router without routes gets a `route_layer`.
        if self.has_routes() {
            return self.route_layer(guard);
        }
        let policy = guard.policies.first().map(|policy| policy.name());
        tracing::warn!(
            policy,
            "a rate-limited router has no routes, so nothing is limited: \
             put `#[rate_limit]` on the function that adds the routes, or on the handler of the fallback"
        );
        self
    }
}

impl<S: Clone + 'static, E: 'static> Guarded for MethodRouter<S, E> {
    fn guarded(self, guard: GuardLayer) -> Self {
        self.layer(guard)
    }
}

/// The layer that makes a [`Guard`].
#[derive(Clone, Copy, Debug)]
pub struct GuardLayer {
    policies: &'static [&'static Policy],
}

impl<E> Layer<Route<E>> for GuardLayer {
    type Service = Guard<E>;

    fn layer(&self, route: Route<E>) -> Self::Service {
        Guard { route, policies: self.policies }
    }
}

/// A route with policies before it.
pub struct Guard<E> {
    route: Route<E>,
    policies: &'static [&'static Policy],
}

impl<E> Clone for Guard<E> {
    fn clone(&self) -> Self {
        Self { route: self.route.clone(), policies: self.policies }
    }
}

impl<E> fmt::Debug for Guard<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("policies", &self.policies).finish_non_exhaustive()
    }
}

impl<E: 'static> Service<Request> for Guard<E> {
    type Response = Response;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(())) // a `Route` is always ready
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut route = self.route.clone();
        let policies = self.policies;
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            match Ledger::admit(&parts, policies).await {
                Ok(()) => route.call(Request::from_parts(parts, body)).await,
                Err(denial) => Ok(denial),
            }
        })
    }
}
