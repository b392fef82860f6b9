//! A misspelt argument is answered with the one it was meant to be.

use axum_rate_limit::rate_limit;

#[rate_limit(nam = "x", per_minute = 5)]
async fn nam() {}

#[rate_limit(Name = "x", per_minute = 5)]
async fn capital_name() {}

#[rate_limit(name = "x", per_minut = 5)]
async fn per_minut() {}

#[rate_limit(name = "x", perminute = 5)]
async fn perminute() {}

#[rate_limit(name = "x", per_secund = 5)]
async fn per_secund() {}

#[rate_limit(name = "x", per_hours = 5)]
async fn per_hours() {}

#[rate_limit(name = "x", qouta(5, per = "90s"))]
async fn qouta() {}

#[rate_limit(name = "x", per_minute = 5, by_resorce)]
async fn by_resorce() {}

#[rate_limit(name = "x", per_minute = 5, by_ressource)]
async fn by_ressource() {}

#[rate_limit(name = "x", per_minute = 5, by_routes)]
async fn by_routes() {}

#[rate_limit(name = "x", per_minute = 5, stauts = 429)]
async fn stauts() {}

#[rate_limit(name = "x", per_minute = 5, mesage = "Slow down.")]
async fn mesage() {}

#[rate_limit(polcy = LIMIT)]
async fn polcy() {}

#[rate_limit(name = "x", per_minute = 5, crat = axum_rate_limit)]
async fn crat() {}

#[rate_limit(name = "x", per_minute = 5, teapot)]
async fn like_none_of_them() {}

#[rate_limit(per_minut = 5)]
async fn and_no_name() {}

#[rate_limit(nam = "x")]
async fn and_no_quota() {}

#[rate_limit(teapot)]
async fn and_neither() {}

#[rate_limit(name = "x", per_minute = 5, 429)]
async fn no_argument_at_all() {}

fn main() {}
