//! The arguments of other libraries, and what to write here instead.

use crate::args::Kind;

const PER_WINDOW: &str =
    "write `per_second`, `per_minute`, `per_hour` or `per_day = N`, or `quota(N, per = \"90s\")`";
const MESSAGE: &str = "write `message = \"…\"`";
const STATUS: &str = "write `status = 429`";
const BY_RESOURCE: &str = "write `by_resource` for a quota for each path as asked for, or `by_route` \
                           for each route template";
const KEY: &str = "a quota is kept for each client address; for another key write \
                   `key = header(\"x-api-key\")`, `key = global` or the path of a function";
const IP: &str = "leave it out, since a quota is kept for each client address; for another key write \
                  `key = header(\"x-api-key\")` or the like";
const ALGORITHM: &str = "write `algorithm = fixed_window`, `sliding_window`, `sliding_log` or `token_bucket`";
const ON_ERROR: &str = "write `on_store_error = local`, `allow` or `deny`";
const BURST: &str = "write `algorithm = token_bucket, burst = 10`";

/// Words that other libraries use, the required argument that they stand for, if any, and what to write here
/// instead.
pub(crate) const FOREIGN: &[(&[&str], Option<Kind>, &str)] = &[
    (
        &[
            "times",
            "seconds",
            "minutes",
            "hours",
            "milliseconds",
            "days",
            "second",
            "minute",
            "hour",
            "day",
            "limit",
            "limits",
            "rate",
            "requests",
            "max",
            "max_requests",
            "permits",
            "count",
            "amount",
            "n",
            "window",
            "window_ms",
            "window_size",
            "window_seconds",
            "window_secs",
            "period",
            "duration",
            "interval",
            "per",
            "every",
            "ttl",
            "rps",
            "rpm",
            "expire",
            "permit_limit",
            "calls",
            "refill",
            "refill_interval",
            "replenish",
            "capacity",
            "tokens",
            "limit_for_period",
            "limit_refresh_period",
        ],
        Some(Kind::Quota),
        PER_WINDOW,
    ),
    (
        &["limit_per_minutes", "limit_per_minute", "per_minutes", "per_min", "requests_per_minute"],
        Some(Kind::Quota),
        "write `per_minute = N`",
    ),
    (
        &["limit_per_second", "limit_per_seconds", "per_seconds", "per_sec", "requests_per_second"],
        Some(Kind::Quota),
        "write `per_second = N`",
    ),
    (
        &["limit_per_hour", "limit_per_hours", "per_hours", "requests_per_hour"],
        Some(Kind::Quota),
        "write `per_hour = N`",
    ),
    (
        &["limit_per_day", "limit_per_days", "per_days", "requests_per_day"],
        Some(Kind::Quota),
        "write `per_day = N`",
    ),
    (&["per_week", "weekly", "week", "weeks"], Some(Kind::Quota), "write `quota(N, per = \"7d\")`"),
    (&["per_month", "monthly", "month", "months"], Some(Kind::Quota), "write `quota(N, per = \"30d\")`"),
    (&["per_year", "yearly", "year", "years"], Some(Kind::Quota), "write `quota(N, per = \"365d\")`"),
    (
        &["per_ms", "per_millisecond", "per_milliseconds"],
        Some(Kind::Quota),
        "write `quota(N, per = \"1ms\")`",
    ),
    (&["burst_size", "max_burst", "refill_tokens"], None, BURST),
    (&["status_code", "code", "http_status", "error_code"], None, STATUS),
    (&["detail", "error_message", "error", "text", "msg", "body"], None, MESSAGE),
    (&["id", "prefix", "bucket", "policy_name", "zone", "group"], Some(Kind::Name), "write `name = \"…\"`"),
    (
        &[
            "resource",
            "per_resource",
            "by_path",
            "per_path",
            "per_endpoint",
            "per_method",
            "endpoint",
            "path",
            "scope",
        ],
        None,
        BY_RESOURCE,
    ),
    (
        &["method", "methods"],
        None,
        "put the attribute on the handler of that method, or write `skip_if = function`",
    ),
    (&["route", "per_route", "by_template", "by_matched_path"], None, "write `by_route`"),
    (
        &[
            "by",
            "key_func",
            "key_fn",
            "key_by",
            "key_generator",
            "key_extractor",
            "identifier",
            "user",
            "by_user",
            "per_user",
            "by_key",
            "per_key",
            "by_header",
            "per_header",
            "header",
            "global",
        ],
        None,
        KEY,
    ),
    (&["ip", "by_ip", "per_ip", "client", "by_client", "per_client"], None, IP),
    (&["krate", "crate_path", "crate_name"], None, "write `crate = path`"),
    (
        &[
            "strategy",
            "algo",
            "moving_window",
            "gcra",
            "leaky_bucket",
            "sliding",
            "fixed",
            "fixed_window",
            "sliding_window",
            "sliding_log",
            "token_bucket",
        ],
        None,
        ALGORITHM,
    ),
    (&["weight", "hits", "cost_fn", "points"], None, "write `cost = 2`, or `cost = function`"),
    (
        &[
            "exempt_when",
            "skip",
            "skip_unless",
            "only_if",
            "exempt",
            "whitelist",
            "allowlist",
            "when",
            "unless",
            "condition",
        ],
        None,
        "write `skip_if = function`",
    ),
    (
        &[
            "deduct_when",
            "count_if",
            "refund_if",
            "refund_when",
            "skip_successful_requests",
            "skip_failed_requests",
        ],
        None,
        "write `give_back_if = function`",
    ),
    (&["dry_run", "report_only", "log_only"], None, "write `shadow`"),
    (
        &["fail_open", "fail_closed", "swallow_errors", "in_memory_fallback", "on_error", "skip_on_error"],
        None,
        ON_ERROR,
    ),
    (&["tiers", "dynamic", "limit_provider", "quota_by", "quotas"], None, "write `quotas_by = function`"),
    (
        &[
            "headers",
            "key_prefix",
            "max_keys",
            "problem_details",
            "redis",
            "redis_url",
            "storage",
            "store",
            "timeout",
            "trusted_proxies",
        ],
        None,
        "this is of the whole limiter: set it on `RateLimiter::builder()`",
    ),
];

/// Words that other libraries use for values of arguments, and what is written here instead.
pub(crate) const FOREIGN_VALUES: &[(&[&str], &str)] = &[
    (&["fixed", "fixed_window_counter"], "fixed_window"),
    (&["sliding", "sliding_window_counter", "rolling_window"], "sliding_window"),
    (&["log", "moving_window", "sliding_window_log"], "sliding_log"),
    (&["bucket", "gcra", "leaky", "leaky_bucket"], "token_bucket"),
    (&["memory", "in_memory", "fallback"], "local"),
    (&["open", "fail_open", "pass", "ignore"], "allow"),
    (&["closed", "fail_closed", "reject", "block"], "deny"),
];
