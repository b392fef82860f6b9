//! Bursts: how many of many simultaneous requests a limit lets through.

use std::sync::Arc;

use bench::{CLIENTS, Column, KEY_HEADER};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Result;
use crate::candidate::Candidate;
use crate::job::MANY;
use crate::process::Service;
use crate::redis::Redis;

/// The number of connections, and of requests over each.
const CONNECTIONS: usize = 200;
const EACH: usize = 5;
pub(crate) const REQUESTS: usize = CONNECTIONS * EACH;

/// Returns how many of [`REQUESTS`] a fresh service lets through, whose limit is
/// [`DENIED_LIMIT`](bench::DENIED_LIMIT).
pub(crate) async fn passed(candidate: &Candidate, redis: &mut Redis) -> Result<usize> {
    redis.clear().await?;
    let service = Service::start(candidate, Column::Denied, &redis.url).await?;
    let passed = send(&service.url, CONNECTIONS, EACH).await;
    service.process.stop().await;
    passed
}

/// Warms up a service that was just started: exhausts the limits that are to be exhausted, or sends at least one
/// request per client, so that no counter is new when the service is measured.
pub(crate) async fn warm_up(url: &str, column: Column) -> Result<()> {
    let each = if column == Column::Keys { CLIENTS.div_ceil(MANY) } else { 30 };
    send(url, MANY, each).await.map(|_| ())
}

/// Sends `each` requests over each of `connections`, each from another client where clients are told apart, and
/// returns how many pass.
async fn send(url: &str, connections: usize, each: usize) -> Result<usize> {
    let http = reqwest::Client::builder().pool_max_idle_per_host(connections).build()?;
    let start = Arc::new(Barrier::new(connections));
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let (http, url, start) = (http.clone(), url.to_owned(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let mut passed = 0;
            for turn in 0..each {
                let client = bench::client((number * each + turn) % CLIENTS + 1);
                let request = http.get(&url).header(KEY_HEADER, &client);
                let response = request.send().await?;
                passed += usize::from(response.status().is_success());
                response.bytes().await?;
            }
            Ok::<_, reqwest::Error>(passed)
        });
    }
    let mut passed = 0;
    while let Some(ended) = tasks.join_next().await {
        passed += ended??;
    }
    Ok(passed)
}
