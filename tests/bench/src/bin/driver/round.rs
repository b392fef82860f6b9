//! One round of measurements: every job of every candidate, some of them several times.

use std::time::Duration;

use crate::Result;
use crate::arguments::Arguments;
use crate::burst;
use crate::candidate::{Candidate, Store};
use crate::job::{CLOSE_RUNS, Job, MANY};
use crate::process::Service;
use crate::redis::Redis;
use crate::results::Results;
use crate::wrk::{self, Load};

/// The outcome of one run of one job.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) load: Load,
    /// The CPU time that the service and Redis used.
    pub(crate) service: Option<Duration>,
    pub(crate) redis: Option<Duration>,
    /// How many commands were sent to Redis.
    pub(crate) calls: u64,
}

pub(crate) async fn run(
    round: usize,
    arguments: &Arguments,
    candidates: &[&'static Candidate],
    redis: &mut Redis,
    results: &mut Results,
) -> Result<()> {
    let all = candidates.iter().flat_map(|candidate| Job::all(candidate).map(|job| (*candidate, job)));
    let mut jobs: Vec<(&Candidate, Job)> = all.collect();
    let is_close =
        |(candidate, job): &(&Candidate, Job)| candidate.store != Store::Redis && job.connections == MANY;
    let close: Vec<_> = jobs.iter().copied().filter(is_close).collect();
    for _ in 1..CLOSE_RUNS {
        jobs.extend(&close);
    }
    // If the machine grows slower in the course of a round, it is not always at the expense of the same jobs.
    let length = jobs.len();
    jobs.rotate_left(round * length / arguments.rounds);
    for (number, (candidate, job)) in jobs.into_iter().enumerate() {
        let measurement = measure(candidate, job, arguments.duration, redis).await?;
        eprintln!(
            "round {}, {:3} of {length}: {:28} {:6} {:2} {:9.0} requests/s",
            round + 1,
            number + 1,
            job.candidate,
            job.column,
            job.connections,
            measurement.rate()
        );
        results.runs.entry(job).or_default().push(measurement);
    }
    Ok(())
}

async fn measure(candidate: &Candidate, job: Job, time: Duration, redis: &mut Redis) -> Result<Measurement> {
    redis.clear().await?;
    let service = Service::start(candidate, job.column, &redis.url).await?;
    burst::warm_up(&service.url, job.column).await?;
    let before = (service.process.cpu(), redis.process.cpu(), redis.calls().await?);
    let load = wrk::run(job, time, &service.url).await?;
    let after = (service.process.cpu(), redis.process.cpu(), redis.calls().await?);
    service.process.stop().await;
    Ok(Measurement {
        load,
        service: after.0.zip(before.0).map(|(after, before)| after.saturating_sub(before)),
        redis: after.1.zip(before.1).map(|(after, before)| after.saturating_sub(before)),
        calls: after.2.since(&before.2).sent(candidate.kind),
    })
}
