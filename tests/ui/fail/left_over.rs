use axum_rate_limit::rate_limit;

#[rate_limit(name = "one", per_minute = 5, key = (ip global))]
async fn one() {}

#[rate_limit(name = "two", per_minute = 5, key = header("x-api-key" "x"))]
async fn two() {}

#[rate_limit(name = "three", per_minute = 0, key = (ip, header("x-api-key", "x")))]
async fn three() {}

fn main() {}
