//! The `#[rate_limit]` attribute of [axum-rate-limit](https://docs.rs/axum-rate-limit), which
//! re-exports it: depend on that crate, not on this one.
//!
//! ```text
//! attribute ─▶ Args ─▶ Policy (checked) ─▶ Declaration ─┬─▶ expansion
//! item ─▶ Target ───────────────────────────────────────┘
//! ```

#![allow(clippy::large_enum_variant)] // each is made once, while a program compiles

mod args;
mod errors;
mod expand;
mod key;
mod policy;
mod returns;
mod target;
mod values;
mod words;

use proc_macro::TokenStream;

/// Limits how often a handler, the routes of a router function, or the routes of a module are served.
///
/// ```text
/// #[rate_limit(name = "hardwork", per_minute = 5, by_resource)]
/// async fn calculate() -> Json<Value> { … }
/// ```
///
/// The limit is checked before any other extractor runs, so the body of a denied request is never read. A
/// [`RateLimiter`] must be among the layers of the router that serves the handler. Without one, each request is
/// answered with 500, and the log says which line to add.
///
/// # Arguments
///
#[doc = include_str!("../arguments.md")]
///
/// A function is given by its path, or as a closure that captures nothing.
///
/// Several quotas, and several attributes on one item, are decided together: all must allow, and a denial by one
/// takes nothing from any of them.
/// Attributes of the same name share their counters, and must declare the same policy.
///
/// # Where it can be placed
///
/// * On a **handler**: an `async fn`, or a `fn` that returns `impl Future`, with up to 15 extractors of its own.
///   The attribute adds one more, a permit that only axum can supply. So move code that is also called from
///   elsewhere into a function of its own. In an `impl` or a `trait`, only functions that return a router and take no
///   `self` can be limited: move a handler out of it.
/// * On a **function that returns `Router<S>` or `MethodRouter<S, E>`**, under that name or an alias that ends
///   in `Router`: all routes in the returned router are limited. A path that no route matches (404) is not
///   counted; a method that a matching route lacks (405) is. The fallback of a `Router` is not limited, nor is a
///   `method_not_allowed_fallback` that is added to the returned router.
/// * On an **inline module**: as if on each such function directly inside, including those that return a router
///   under another name that the module gives it (`use axum::Router as Routes`, `type Routes = Router`). The
///   module's limit is checked first, then that of a function, then that of a handler. A router that comes
///   inside another type (also a struct or an enum of the module), under a name from elsewhere that does not end in
///   `Router`, from an `impl`, a `const` or a `static`, or as a `&mut Router`, is an error there, since it would not be
///   limited.
/// * On a **middleware function**, as `axum::middleware::from_fn` takes it: all that the middleware is around is
///   limited, fallbacks included.
///
/// Add the limiter as a layer outside of a limited function or module, to the router that merges or nests what
/// it returns. A layer that is added inside runs after the limit, and each request is answered with 500.
///
/// Where the path must be the first extractor of a handler, as in the typed routing of axum-extra (`typed_get`),
/// limit the router function instead: on a handler, the permit comes first.
///
/// However many merged or nested routers carry a policy, it charges a request once.
///
/// # With other attributes
///
/// Put `#[rate_limit]` above `#[debug_handler]`, which has to see the finished signature. With
/// `#[tracing::instrument]` and `#[utoipa::path]`, any order works.
///
/// # Errors
///
/// Every mistake in the attribute is a compile error on the offending token, and all of them are reported at
/// once. A zero in a constant is a compile error, too.
///
/// [`RateLimiter`]: https://docs.rs/axum-rate-limit/latest/axum_rate_limit/struct.RateLimiter.html
#[proc_macro_attribute]
pub fn rate_limit(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::rate_limit(args.into(), &item.into()).into()
}
