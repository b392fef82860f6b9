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
/// | argument | meaning |
/// |---|---|
/// | `name = "…"` | required. 1 to 64 of `A-Z a-z 0-9 _ - .`. Names the policy in the store, the headers and the logs. Attributes of the same name share their counters, and must declare the same policy |
/// | `per_second`, `per_minute`, `per_hour`, `per_day` `= N` | a quota; `N` is a literal or a constant expression, 1 … `u32::MAX` |
/// | `quota(N, per = "90s")` | a quota over any other window, `1ms` … `366d`; may be given several times |
/// | `algorithm = …` | `fixed_window` (default), `sliding_window` (two weighted counters), `sliding_log` (exact, counts up to 10,000), `token_bucket` (GCRA) |
/// | `burst = N` | `token_bucket` only: how many requests the quota with the shortest window lets pass at once; default its own count, as for all other quotas |
/// | `by_resource` | a quota for each `METHOD:path` as requested; `HEAD` counts as `GET` |
/// | `by_route` | a quota for each `METHOD:template`, e.g. `GET:/users/{id}`. Requests without a template (`nest_service` inside a limited router) share one quota per method |
/// | `key = …` | who shares a quota: `ip` (default), `global`, `header("x-api-key")`, a `fn(&Parts) -> Option<String>`, or a tuple of these. A part that a request lacks is replaced by the client's address. A header that clients can set freely gives them any number of quotas. A function with one of these names is written as `self::ip` |
/// | `cost = …` | how much of the quotas a request takes: a constant, or a `fn(&Parts) -> u32`; default 1; 0 is free. A path whose last segment is in capitals is a constant |
/// | `quotas_by = function` | `fn(&Parts) -> Option<Quotas>`: the quotas for a request, or `None` for the declared ones |
/// | `skip_if = function` | `fn(&Parts) -> bool`; a request for which it returns true is not counted and never denied |
/// | `give_back_if = function` | `fn(&response::Parts) -> bool`; a response for which it returns true gives the charge back |
/// | `status = 429` | the status of a denial, 400 … 599; default 503, or that of the limiter |
/// | `message = "…"` | the text of a denial; default `Rate limit exceeded.` |
/// | `on_store_error = …` | `local`, `allow`, `deny`; default that of the limiter |
/// | `shadow` | count and report, never deny |
/// | `policy = PATH` | a `const` or `static` [`Policy`] instead of all the above |
/// | `crate = path` | where the runtime is, if it is not the dependency `axum_rate_limit` |
///
/// A function is given by its path, or as a closure that captures nothing.
///
/// Several quotas, and several attributes on one item, are decided together: all must allow, and a denial by one
/// takes nothing from any of them.
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
///   inside another type, from an `impl`, a `const` or a `static`, or as a `&mut Router`, is an error there,
///   since it would not be limited.
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
/// [`Policy`]: https://docs.rs/axum-rate-limit/latest/axum_rate_limit/struct.Policy.html
#[proc_macro_attribute]
pub fn rate_limit(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::rate_limit(args.into(), &item.into()).into()
}
