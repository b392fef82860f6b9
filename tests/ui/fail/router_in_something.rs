//! Functions of a limited module that return a router in something else.

use std::pin::Pin;
use std::sync::OnceLock;

use axum::Router;
use axum::routing::MethodRouter;
use axum_rate_limit::rate_limit;

type AppRouter = Router<u32>;
type AppResult<T> = Result<T, String>;
type Fallible<T> = Result<T, String>;
struct Tagged<T>(T);
type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[rate_limit(name = "limited", per_minute = 5)]
mod limited {
    use super::*;

    pub fn plain() -> Router {
        Router::new()
    }

    #[cfg_attr(all(), rate_limit(name = "conditional", per_minute = 5))]
    pub fn conditional() -> Router {
        Router::new()
    }

    pub fn fallible() -> Result<Router, String> {
        unreachable!()
    }

    pub fn fallible_option() -> Result<Option<Router>, String> {
        unreachable!()
    }

    pub fn fallible_pair() -> Result<(Router, u32), ()> {
        unreachable!()
    }

    pub fn several() -> Vec<Router> {
        unreachable!()
    }

    pub fn an_array() -> [MethodRouter; 2] {
        unreachable!()
    }

    pub fn a_list() -> Vec<(&'static str, MethodRouter)> {
        unreachable!()
    }

    pub fn borrowed() -> &'static Router {
        unreachable!()
    }

    pub fn borrowed_slice() -> &'static [Router] {
        unreachable!()
    }

    pub fn shared() -> &'static OnceLock<Router> {
        unreachable!()
    }

    pub fn a_future() -> impl Future<Output = Router> {
        std::future::ready(Router::new())
    }

    pub fn a_fallible_future() -> impl Future<Output = Result<axum::Router, String>> + Send {
        std::future::ready(Ok(Router::new()))
    }

    pub fn a_boxed_future() -> BoxFuture<'static, Router> {
        unreachable!()
    }

    pub fn a_pinned_future() -> Pin<Box<dyn Future<Output = Router>>> {
        unreachable!()
    }

    pub fn convertible() -> impl Into<Router> {
        Router::new()
    }

    pub fn a_closure() -> impl Fn() -> Router {
        || Router::new()
    }

    pub fn a_function() -> fn() -> Router {
        unreachable!()
    }

    pub fn an_iterator() -> impl Iterator<Item: Into<Router>> {
        std::iter::empty::<Router>()
    }

    pub fn an_alias() -> Option<AppRouter> {
        unreachable!()
    }

    pub fn an_alias_of_result() -> AppResult<Router> {
        unreachable!()
    }

    pub fn an_unknown_wrapper() -> Tagged<Router> {
        unreachable!()
    }

    pub fn an_unknown_alias() -> Fallible<Router> {
        unreachable!()
    }

    type Late = std::task::Poll<Router>;

    pub fn an_alias_from_here() -> Late {
        unreachable!()
    }

    pub fn any_service() -> impl tower::Service<axum::extract::Request> + Clone {
        Router::new()
    }

    pub fn a_service() -> axum::routing::RouterIntoService<axum::body::Body> {
        unreachable!()
    }

    pub fn filled(router: &mut Router) {
        *router = std::mem::take(router);
    }

    pub struct Apis {
        pub public: Router,
        pub version: u32,
    }

    pub fn in_a_struct() -> Apis {
        Apis { public: Router::new(), version: 1 }
    }

    impl Apis {
        pub fn new() -> Self {
            Self { public: Router::new(), version: 1 }
        }
    }

    pub enum Api {
        Off,
        On(Box<Apis>),
    }

    pub fn in_an_enum() -> Option<Api> {
        Some(Api::On(Box::new(in_a_struct())))
    }

    pub static SHARED: OnceLock<Router> = OnceLock::new();

    pub const MADE: fn() -> Router = Router::new;

    pub struct App;

    impl App {
        pub fn new() -> Self {
            Self
        }

        pub fn router(self) -> Router {
            Router::new()
        }

        #[rate_limit(name = "own", per_day = 1_000)]
        pub fn limited_by_itself() -> Router {
            Router::new()
        }
    }

    pub trait Routes {
        fn routes() -> MethodRouter;
    }
}

#[rate_limit(name = "limited", per_minute = 5)]
fn late_router() -> impl Future<Output = Router> {
    std::future::ready(Router::new())
}

#[rate_limit(name = "limited", per_minute = 5)]
fn late_boxed_router() -> BoxFuture<'static, Router> {
    unreachable!()
}

#[rate_limit(name = "limited", per_minute = 5)]
fn routers() -> Vec<Router> {
    unreachable!()
}

#[rate_limit(name = "limited", per_minute = 5)]
async fn late_pair() -> Result<(Router, u32), String> {
    unreachable!()
}

fn main() {}
