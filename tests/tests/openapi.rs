//! Tests that an OpenAPI document describes denials as clients see them.

use std::collections::BTreeSet;

use axum::Router;
use axum::routing::get;
use axum_rate_limit::openapi::{RateLimited, RateLimitedProblem};
use axum_rate_limit::{Builder, RateLimiter, rate_limit};
use serde_json::{Value, json};
use tests::App;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[utoipa::path(get, path = "/plain", responses((status = 200, body = str), RateLimited))]
#[rate_limit(name = "plain", per_minute = 1)]
async fn plain() -> &'static str {
    "ok"
}

#[rate_limit(name = "too-many", per_minute = 1, status = 429)]
#[utoipa::path(get, path = "/too-many", responses((status = 200, body = str), RateLimited<429>))]
async fn too_many() -> &'static str {
    "ok"
}

#[utoipa::path(get, path = "/problem", responses((status = 200, body = str), RateLimitedProblem))]
#[rate_limit(name = "problem", per_minute = 1)]
async fn problem() -> &'static str {
    "ok"
}

#[utoipa::path(get, path = "/too-many-problems", responses((status = 200, body = str), RateLimitedProblem<429>))]
#[rate_limit(name = "too-many-problems", per_minute = 1, status = 429)]
async fn too_many_problems() -> &'static str {
    "ok"
}

#[derive(OpenApi)]
#[openapi(paths(plain, too_many, problem, too_many_problems))]
struct Api;

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Requests `path` twice, and compares the second answer, a denial, with the document.
async fn is_as_described(builder: Builder, router: Router, path: &str) {
    let app = App::serve(router.layer(builder.build().await.expect("it builds"))).await;
    assert_eq!(app.get(path).await.status, 200);
    let denial = app.get(path).await;
    let document = serde_json::to_value(Api::openapi()).expect("JSON");
    let responses = &document["paths"][path]["get"]["responses"];
    assert_eq!(keys(responses), BTreeSet::from(["200", denial.status.as_str()]), "{path}");

    let described = &responses[denial.status.as_str()];
    for name in keys(&described["headers"]) {
        let value = denial.field(name);
        let is_number = value.parse::<u64>().is_ok();
        assert_eq!(described["headers"][name]["schema"]["type"] == "integer", is_number, "{name}: {value}");
    }
    for name in denial.headers.keys().filter(|name| name.as_str().contains("rate") || *name == "retry-after")
    {
        assert!(keys(&described["headers"]).contains(name.as_str()), "{name}");
    }

    let content = &described["content"][denial.field("content-type")];
    let (schema, body): (_, Value) = (&content["schema"], serde_json::from_str(&denial.body).expect("JSON"));
    let mut example = content["example"].clone();
    if let Some(violated) = example.get_mut("violated-policies") {
        // The example in the document names a policy of its own.
        *violated = json!([path.trim_start_matches('/')]);
    }
    assert_eq!(example, body, "{path}");
    assert_eq!(keys(&schema["properties"]), keys(&body), "{path}");
    let required: BTreeSet<&str> =
        schema["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(required, keys(&body), "{path}");
    for (name, value) in body.as_object().expect("an object") {
        let kind = match value {
            Value::String(_) => "string",
            Value::Number(_) => "integer",
            Value::Array(_) => "array",
            other => panic!("{name} is {other}"),
        };
        assert_eq!(schema["properties"][name]["type"], json!(kind), "{path}: {name}");
    }
}

#[tokio::test]
async fn a_denial_is_as_it_is_described() {
    for (path, handler) in [("/plain", get(plain)), ("/too-many", get(too_many))] {
        is_as_described(RateLimiter::builder(), Router::new().route(path, handler), path).await;
    }
}

#[tokio::test]
async fn a_problem_is_as_it_is_described() {
    for (path, handler) in [("/problem", get(problem)), ("/too-many-problems", get(too_many_problems))] {
        let builder = RateLimiter::builder().problem_details();
        is_as_described(builder, Router::new().route(path, handler), path).await;
    }
}

#[utoipa::path(get, path = "/routed", responses((status = 200, body = str)))]
async fn routed() -> &'static str {
    "ok"
}

#[rate_limit(name = "function", per_minute = 1)]
fn limited() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(routed))
}

#[rate_limit(name = "module", per_minute = 1)]
mod limited {
    use utoipa_axum::router::OpenApiRouter;
    use utoipa_axum::routes;

    pub(super) fn router() -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(super::routed))
    }
}

#[tokio::test]
async fn a_router_with_its_document_is_limited() {
    for (router, policy) in [(limited(), "function"), (limited::router(), "module")] {
        let (router, document) = router.split_for_parts();
        assert!(document.paths.paths.contains_key("/routed"), "{policy}");
        let app = App::serve(router.layer(RateLimiter::memory())).await;
        assert_eq!(app.statuses("/routed", 2).await, [200, 503]);
        assert!(app.get("/routed").await.field("ratelimit").contains(policy));
    }
}
