//! The tower layer: gives each request a ledger, and acts on it when the response comes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::ServiceExt;
use axum::extract::Request;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::routing::{IntoMakeService, Router};
use http::{Extensions, HeaderMap, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tower_layer::Layer;
use tower_service::Service;

use super::ledger::Ledger;
use super::{Headers, faults};
use crate::rate_limiter::RateLimiter;
use crate::store::BoxFuture;

/// A service whose requests a [`RateLimiter`] counts wherever an attribute below asks for it.
///
/// For a whole application, make it with [`RateLimiter::layer`] and serve it as you would a router.
#[derive(Clone, Debug)]
pub struct RateLimitService<S> {
    inner: S,
    limiter: RateLimiter,
}

impl RateLimiter {
    /// Puts the limiter around a service, which may be a whole router: `limiter.layer(app)` instead of
    /// `app.layer(limiter)`.
    ///
    /// [`Router::layer`] wraps each route by itself: each request takes a clone of the route and a box for a
    /// future, and routes that are added later are not covered. One layer around the router serves all routes, at
    /// less cost.
    ///
    /// ```no_run
    /// use std::net::SocketAddr;
    /// use axum::Router;
    /// use axum_rate_limit::RateLimiter;
    ///
    /// # async fn serve(app: Router, listener: tokio::net::TcpListener) -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = RateLimiter::from_env().await?;
    /// let app = limiter.layer(app);
    /// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Does the same as the method of [`tower::Layer`](tower_layer::Layer), without that trait in scope.
    pub fn layer<S>(&self, inner: S) -> RateLimitService<S> {
        RateLimitService { inner, limiter: self.clone() }
    }
}

/// What `axum::serve` takes, as [`Router`] has it. For other services, use [`axum::ServiceExt`].
impl RateLimitService<Router> {
    /// Like [`Router::into_make_service`]: without the peer address, by which most policies tell clients apart.
    pub fn into_make_service(self) -> IntoMakeService<Self> {
        ServiceExt::<Request>::into_make_service(self.finished())
    }

    /// Like [`Router::into_make_service_with_connect_info`]: with the peer address.
    pub fn into_make_service_with_connect_info<C>(self) -> IntoMakeServiceWithConnectInfo<Self, C> {
        ServiceExt::<Request>::into_make_service_with_connect_info(self.finished())
    }

    /// Turns handlers into routes once, as axum does for a router that it serves, and not for each request.
    fn finished(self) -> Self {
        Self { inner: self.inner.with_state(()), ..self }
    }
}

impl<S> Layer<S> for RateLimiter {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimiter::layer(self, inner)
    }
}

impl<S, Body, ResBody> Service<http::Request<Body>> for RateLimitService<S>
where
    S: Service<http::Request<Body>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let ledger = self.limiter.enter(request.extensions_mut());
        ResponseFuture { inner: self.inner.call(request), ledger, held: None }
    }
}

impl RateLimiter {
    /// Puts a ledger into a request, and returns it for the response.
    fn enter(&self, extensions: &mut Extensions) -> Option<Ledger> {
        let ledger = Ledger::new(self.clone());
        let outer = extensions.insert(ledger.clone());
        // If the same limiter is around a router and around one nested in it, the outer layer keeps the ledger.
        if let Some(outer) = outer.filter(|outer| outer.rate_limiter().is(self))
            && let Some(ledger) = extensions.get_mut()
        {
            *ledger = outer;
            return None;
        }
        Some(ledger)
    }

    /// Whether `other` is a clone of this one.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

pin_project! {
    /// The response future of a [`RateLimitService`].
    pub struct ResponseFuture<F>
    where
        F: Future,
    {
        #[pin]
        inner: F,
        ledger: Option<Ledger>,
        held: Option<Box<HeldResponse<F::Output>>>,
    }
}

/// A response that is held back until the charges that `give_back_if` cancels have been given back.
struct HeldResponse<A> {
    answer: A,
    ledger: Ledger,
    giving_back: GivingBack,
}

/// Gives back what a response does not count. If this is dropped before, since the client has hung up, a task of its
/// own goes on: a node of a cluster may have to be waited for, or a redirection to be followed.
struct GivingBack(Option<BoxFuture<'static, ()>>);

impl GivingBack {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Taken out, so that it is not polled again if it panics.
        let Some(mut giving_back) = self.0.take() else { return Poll::Ready(()) };
        let polled = giving_back.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(giving_back);
        }
        polled
    }
}

impl Drop for GivingBack {
    fn drop(&mut self) {
        if let Some(giving_back) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(giving_back);
        }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut held = if let Some(held) = this.held.take() {
            held
        } else {
            let mut response = ready!(this.inner.poll(cx))?;
            let Some(ledger) = this.ledger.take() else { return Poll::Ready(Ok(response)) };
            if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
                faults::denial_in_vain(&ledger);
            }
            if !ledger.depends_on_answer() {
                finish(&ledger, response.headers_mut());
                return Poll::Ready(Ok(response));
            }
            Box::new(HeldResponse::of(response, ledger))
        };
        if held.giving_back.poll(cx).is_pending() {
            *this.held = Some(held);
            return Poll::Pending;
        }
        let HeldResponse { answer, ledger, .. } = *held;
        Poll::Ready(answer.map(|mut response| {
            finish(&ledger, response.headers_mut());
            response
        }))
    }
}

impl<ResBody, E> HeldResponse<Result<Response<ResBody>, E>> {
    fn of(response: Response<ResBody>, ledger: Ledger) -> Self {
        let (parts, body) = response.into_parts();
        let giving_back = GivingBack(Some(Box::pin(ledger.clone().give_back_for(&parts))));
        Self { answer: Ok(Response::from_parts(parts, body)), ledger, giving_back }
    }
}

impl<F: Future + fmt::Debug> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Writes the response fields, and notes that no more is told.
fn finish(ledger: &Ledger, headers: &mut HeaderMap) {
    ledger.end();
    let fields = ledger.response_settings().headers;
    if fields != Headers::Off {
        write_fields(ledger, fields, headers);
    }
}

/// Writes the response fields for what has been decided.
#[inline(never)] // it is long, and needed only where fields are written
fn write_fields(ledger: &Ledger, fields: Headers, headers: &mut HeaderMap) {
    ledger.with_entries(|entries| entries.tell(|told| fields.write(told, headers)));
}
