//! Measures how long requests take when Redis is not next door.
//!
//! Requests arrive at random times, and do not wait for the answers to others. Those of wrk do wait, and would
//! fall into step with the calls of a limiter.

use std::thread;
use std::time::{Duration, Instant};

use bench::{CLIENTS, Column, KEY_HEADER};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinSet;

use crate::Result;
use crate::arguments::Arguments;
use crate::burst;
use crate::candidate::{AWAY, Candidate};
use crate::process::Service;
use crate::redis::Redis;
use crate::results::Results;

/// How long the answers of Redis are in transit.
pub(crate) const DELAY: Duration = Duration::from_millis(2);
/// How many requests arrive per second.
pub(crate) const RATE: f64 = 1_000.0;

/// The outcome of one run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// How long each answer took, the shortest first.
    times: Vec<Duration>,
    /// How many were denied.
    pub(crate) denied: usize,
    /// How many commands were sent to Redis.
    calls: u64,
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
impl Run {
    pub(crate) fn requests(&self) -> usize {
        self.times.len()
    }

    /// Returns the mean time of an answer, in milliseconds.
    pub(crate) fn mean(&self) -> f64 {
        self.times.iter().sum::<Duration>().as_secs_f64() * 1e3 / self.times.len() as f64
    }

    /// Returns the commands sent to Redis, per request.
    pub(crate) fn calls(&self) -> f64 {
        self.calls as f64 / self.times.len() as f64
    }

    /// Returns within how many milliseconds this share of the requests was answered.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is not negative")]
    pub(crate) fn within(&self, share: f64) -> Option<f64> {
        let place = (share * self.times.len() as f64) as usize;
        self.times.get(place.min(self.times.len().saturating_sub(1))).map(|time| time.as_secs_f64() * 1e3)
    }
}

/// Runs one round: every candidate of [`AWAY`] once, behind the line to Redis that begins at the port.
pub(crate) async fn run(
    round: usize,
    arguments: &Arguments,
    candidates: &[&'static Candidate],
    (redis, port): (&mut Redis, u16),
    results: &mut Results,
) -> Result<()> {
    let url = format!("redis://127.0.0.1:{port}/");
    let mut measured: Vec<_> = candidates.iter().filter(|candidate| AWAY.contains(&candidate.id)).collect();
    let length = measured.len();
    measured.rotate_left(round % length.max(1));
    for candidate in measured {
        let run = measure(candidate, arguments.duration, redis, &url).await?;
        eprintln!("round {}, away: {:26} {:6.2} ms", round + 1, candidate.id, run.mean());
        results.away.entry(candidate.id).or_default().push(run);
    }
    Ok(())
}

async fn measure(candidate: &Candidate, time: Duration, redis: &mut Redis, url: &str) -> Result<Run> {
    redis.clear().await?;
    let service = Service::start(candidate, Column::Keys, url).await?;
    burst::warm_up(&service.url, Column::Keys).await?;
    let before = redis.calls().await?;
    let (times, denied) = send(&service.url, time).await?;
    let calls = redis.calls().await?.since(&before).sent(candidate.kind);
    service.process.stop().await;
    Ok(Run { times, denied, calls })
}

/// Sends requests at random times, and returns how long each took, and how many were denied.
async fn send(url: &str, time: Duration) -> Result<(Vec<Duration>, usize)> {
    let (http, mut requests) = (reqwest::Client::new(), JoinSet::new());
    let (arrives, mut arrivals) = mpsc::unbounded_channel();
    // The runtime's timers are too coarse, so the arrivals have a thread.
    thread::spawn(move || arrive(time, &arrives));
    while let Some((at, client)) = arrivals.recv().await {
        let request = http.get(url).header(KEY_HEADER, bench::client(client));
        requests.spawn(async move {
            let response = request.send().await?;
            let denied = !response.status().is_success();
            response.bytes().await?;
            Ok::<_, reqwest::Error>((at.elapsed(), denied))
        });
    }
    let (mut times, mut denied) = (Vec::new(), 0);
    while let Some(answered) = requests.join_next().await {
        let (time, is_denied) = answered??;
        times.push(time);
        denied += usize::from(is_denied);
    }
    times.sort_unstable();
    Ok((times, denied))
}

/// For as long as `time`, sends a message whenever a request is to arrive, with the instant and the client.
fn arrive(time: Duration, arrives: &UnboundedSender<(Instant, usize)>) {
    // The arrivals are the same for all candidates.
    let mut random = fastrand::Rng::with_seed(1);
    let start = Instant::now();
    let mut next = start;
    while next < start + time {
        // A Poisson process: each arrival is independent of the ones before.
        next += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / RATE);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if arrives.send((next, random.usize(1..=CLIENTS))).is_err() {
            return;
        }
    }
}
