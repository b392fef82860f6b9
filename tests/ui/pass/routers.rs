//! A function that returns a `Router` or a `MethodRouter` keeps all that it is.
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![forbid(unsafe_code)]

use std::convert::Infallible;

use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter, get};
use axum_rate_limit::rate_limit;

#[derive(Clone)]
struct AppState(u32);

async fn list() {}

async fn count(State(AppState(count)): State<AppState>) -> String {
    count.to_string()
}

/// Nothing but the signature says what it is.
#[rate_limit(name = "inferred", per_minute = 5)]
async fn inferred(early: bool) -> Router {
    let router = Default::default();
    if early {
        return router;
    }
    router.route("/inferred", get(list))
}

/// Has docs.
#[rate_limit(name = "plain", per_minute = 5, by_resource)]
fn plain() -> Router {
    Router::new().route("/plain", get(list))
}

#[rate_limit(name = "empty", per_minute = 5)]
pub(crate) fn empty() -> Router {
    Router::new()
}

#[rate_limit(name = "generic", per_minute = 5)]
fn generic<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/generic", get(list))
}

#[rate_limit(name = "where_clause", per_minute = 5)]
fn where_clause<H, T, S>(handler: H) -> Router<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    Router::new().route("/where_clause", get(handler))
}

#[rate_limit(name = "by_its_path", per_minute = 5)]
fn by_its_path(state: AppState) -> axum::Router<AppState> {
    let _: AppState = state;
    axum::Router::new().route("/by_its_path", get(count))
}

#[rate_limit(name = "method_router", per_minute = 5)]
fn method_router() -> MethodRouter {
    get(list).post(list)
}

#[rate_limit(name = "method_router_of_state", per_minute = 5)]
fn method_router_of_state() -> routing::MethodRouter<AppState> {
    get(count)
}

#[rate_limit(name = "method_router_of_error", per_minute = 5)]
fn method_router_of_error<S: Clone + Send + Sync + 'static>() -> MethodRouter<S, Infallible> {
    get(list)
}

#[rate_limit(name = "late", per_minute = 5)]
async fn late(name: &str) -> Router {
    tokio::task::yield_now().await;
    if name.is_empty() {
        return Router::new();
    }
    Router::new().route("/late", get(list))
}

type AppRouter = Router;

#[rate_limit(name = "late_alias", per_minute = 5)]
async fn late_alias() -> AppRouter {
    Router::new().route("/late_alias", get(list))
}

#[rate_limit(name = "early_return", per_minute = 5)]
fn early_return(on: bool) -> Router {
    if !on {
        return Router::new();
    }
    Router::new().route("/early_return", get(list))
}

#[rate_limit(name = "mutable", per_minute = 5)]
fn mutable(mut app: Router, (path, _): (&str, u32), names: &mut Vec<String>) -> Router {
    app = app.route(path, get(list));
    names.push(path.to_owned());
    app
}

#[rate_limit(name = "lifetimes", per_minute = 5)]
fn lifetimes<'a>(path: &'a str, paths: &mut Vec<&'a str>) -> Router {
    paths.push(path);
    Router::new()
}

#[rate_limit(name = "stacked", per_minute = 5)]
#[rate_limit(name = "stacked_too", per_hour = 50)]
fn stacked() -> Router {
    Router::new().route("/stacked", get(list))
}

#[rate_limit(name = "inner_attributes", per_minute = 5)]
fn inner_attributes() -> Router {
    //! Has docs inside.
    #![allow(unused_variables)]
    let unused = 5;
    Router::new()
}

#[rate_limit(name = "any_state", per_minute = 5)]
fn any_state(state: impl Clone + Send + Sync + 'static) -> Router {
    Router::new().route("/any_state", get(list)).with_state(state)
}

#[rate_limit(name = "diverges", per_minute = 5)]
fn diverges() -> Router {
    panic!("never called")
}

trait Routes {
    #[rate_limit(name = "provided", per_minute = 5)]
    fn provided() -> Router {
        Router::new().route("/provided", get(list))
    }
}

struct App;

impl Routes for App {}

impl App {
    #[rate_limit(name = "associated", per_minute = 5)]
    fn router() -> Router {
        Router::new().route("/associated", get(list))
    }
}

fn main() {
    #[rate_limit(name = "local", per_minute = 5)]
    fn local() -> Router {
        Router::new().route("/local", get(list))
    }

    let _: fn() -> Router = diverges;
    let mut names = Vec::new();
    let mut paths = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _: Router = plain()
        .merge(empty())
        .merge(generic())
        .merge(where_clause(count).with_state(AppState(5)))
        .merge(by_its_path(AppState(5)).with_state(AppState(5)))
        .route("/method_router", method_router())
        .route("/method_router_of_state", method_router_of_state().with_state(AppState(5)))
        .route("/method_router_of_error", method_router_of_error())
        .merge(runtime.block_on(late("late")))
        .merge(runtime.block_on(late_alias()))
        .merge(runtime.block_on(inferred(true)))
        .merge(early_return(true))
        .merge(early_return(false))
        .merge(mutable(Router::new(), ("/mutable", 5), &mut names))
        .merge(lifetimes("/lifetimes", &mut paths))
        .merge(stacked())
        .merge(inner_attributes())
        .merge(any_state(5))
        .merge(App::router())
        .merge(App::provided())
        .merge(local());
    assert_eq!((names, paths), (vec!["/mutable".to_owned()], vec!["/lifetimes"]));
}
