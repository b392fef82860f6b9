//! Denials in an OpenAPI document (feature `openapi`), for [utoipa](https://docs.rs/utoipa) 6.
//!
//! ```
//! use axum_rate_limit::openapi::RateLimited;
//! use axum_rate_limit::rate_limit;
//! use utoipa::OpenApi;
//!
//! #[utoipa::path(get, path = "/report", responses((status = 200, body = str), RateLimited<429>))]
//! #[rate_limit(name = "report", per_minute = 5, status = 429)]
//! async fn report() -> &'static str {
//!     "all is well"
//! }
//!
//! #[derive(OpenApi)]
//! #[openapi(paths(report))]
//! struct Api;
//!
//! let document = serde_json::to_value(Api::openapi())?;
//! let responses = &document["paths"]["/report"]["get"]["responses"];
//! assert!(responses["429"]["headers"]["retry-after"].is_object());
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! With the feature `openapi-router`, the attribute also goes on functions and modules that return utoipa-axum's
//! `OpenApiRouter`.
//!
//! The documented response fields are those of a limiter with [`Headers::Draft`](crate::Headers::Draft), the
//! default. Document the responses of a custom [`on_denied`](crate::Builder::on_denied) yourself.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::IntoResponses;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, RefOr, Response, ResponseBuilder};
#[cfg(feature = "openapi-router")]
use utoipa_axum::router::OpenApiRouter;

use crate::http::Problem;
#[cfg(feature = "openapi-router")]
use crate::http::{GuardLayer, Guarded};
use crate::policy::Policy;

/// A denial: `{"detail": "Rate limit exceeded."}`.
///
/// `STATUS` is the status that the policy or the limiter declares, or 503 if neither does. If the request is
/// denied because the store failed or this process's memory is full, the answer is 503, whatever the policy says.
///
/// A status that is not from 400 to 599 does not build.
#[derive(Clone, Copy, Debug)]
pub struct RateLimited<const STATUS: u16 = 503>;

/// A denial by a limiter with [`problem_details`](crate::Builder::problem_details).
///
/// It is an RFC 9457 problem of a type that draft-ietf-httpapi-ratelimit-headers-11 registers. `STATUS` is as for
/// [`RateLimited`].
#[derive(Clone, Copy, Debug)]
pub struct RateLimitedProblem<const STATUS: u16 = 503>;

impl<const STATUS: u16> IntoResponses for RateLimited<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema =
            ObjectBuilder::new().property("detail", text("Why the request is denied")).required("detail");
        denial::<STATUS>("application/json", schema, json!({ "detail": Policy::MESSAGE }))
    }
}

impl<const STATUS: u16> IntoResponses for RateLimitedProblem<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let status = ObjectBuilder::new().schema_type(Type::Integer).description(Some("The status"));
        let violated = ArrayBuilder::new()
            .items(text("The name of a quota, as in the field `ratelimit-policy`"))
            .description(Some("The quotas that are exceeded"));
        let schema = ObjectBuilder::new()
            .property("type", text("The type of the problem: a URI"))
            .property("title", text("What all problems of the type are"))
            .property("status", status)
            .property("detail", text("Why the request is denied"))
            .property("violated-policies", violated);
        let schema = ["type", "title", "status", "detail", "violated-policies"]
            .into_iter()
            .fold(schema, ObjectBuilder::required);
        let example = Problem::of(STATUS).body(Policy::MESSAGE, &["hardwork"]);
        denial::<STATUS>("application/problem+json", schema, example)
    }
}

fn denial<const STATUS: u16>(
    content_type: &str,
    schema: ObjectBuilder,
    example: Value,
) -> BTreeMap<String, RefOr<Response>> {
    const {
        assert!(
            STATUS >= 400 && STATUS <= 599,
            "a denial is an error: write a status from 400 to 599, as in `RateLimited<429>`"
        );
    }
    let field = |schema: ObjectBuilder, description: &str| {
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    let string = || ObjectBuilder::new().schema_type(Type::String);
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let response = ResponseBuilder::new()
        .description("The rate limit is exceeded")
        .header(
            "retry-after",
            field(seconds, "After how many seconds a request may pass; absent if it never will"),
        )
        .header("ratelimit-policy", field(string(), "The quotas, as `\"hardwork\";q=5;w=60`"))
        .header("ratelimit", field(string(), "What is left of the quotas, as `\"hardwork\";r=0;t=60`"))
        .content(content_type, ContentBuilder::new().schema(Some(schema)).example(Some(example)).build())
        .build();
    BTreeMap::from([(STATUS.to_string(), response.into())])
}

fn text(description: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description)).build()
}

#[cfg(feature = "openapi-router")]
impl<S: Clone + Send + Sync + 'static> Guarded for OpenApiRouter<S> {
    fn guarded(self, guard: GuardLayer) -> Self {
        let (router, document) = self.split_for_parts();
        let mut guarded = Self::from(router.guarded(guard));
        *guarded.get_openapi_mut() = document;
        guarded
    }
}
