//! All that was measured, and what it comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use bench::Column;

use crate::away;
use crate::figures::median;
use crate::job::Job;
use crate::round::Measurement;

#[derive(Debug, Default)]
pub(crate) struct Results {
    /// For each job, one run in each round.
    pub(crate) runs: BTreeMap<Job, Vec<Measurement>>,
    /// For each candidate, one run in each round behind a long line to Redis.
    pub(crate) away: BTreeMap<&'static str, Vec<away::Run>>,
    /// For each candidate, how many of a burst passed, each time.
    pub(crate) bursts: BTreeMap<&'static str, Vec<usize>>,
}

/// What remains of bare axum's throughput: the median of all rounds, the least and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
impl Measurement {
    /// Requests in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.load.requests as f64 / self.load.time.as_secs_f64()
    }

    /// Microseconds of a request's share.
    fn share(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.load.requests as f64
    }

    /// How many commands clients sent for a request.
    fn calls(&self) -> f64 {
        self.calls as f64 / self.load.requests as f64
    }
}

impl Results {
    pub(crate) fn has(&self, job: Job) -> bool {
        self.runs.contains_key(&job)
    }

    pub(crate) fn rate(&self, job: Job) -> Option<f64> {
        self.median(job, |run| Some(run.rate()))
    }

    /// Microseconds of processors that the service used for a request.
    pub(crate) fn service(&self, job: Job) -> Option<f64> {
        self.median(job, |run| run.service.map(|time| run.share(time)))
    }

    /// Microseconds of processors that Redis used for a request.
    pub(crate) fn redis(&self, job: Job) -> Option<f64> {
        self.median(job, |run| run.redis.map(|time| run.share(time)))
    }

    /// Commands sent to Redis for a request.
    pub(crate) fn calls(&self, job: Job) -> Option<f64> {
        self.median(job, |run| Some(run.calls()))
    }

    /// Mean and median latency, in microseconds.
    pub(crate) fn latency(&self, job: Job) -> Option<(f64, f64)> {
        let mean = self.median(job, |run| Some(run.load.mean.as_secs_f64() * 1e6))?;
        Some((mean, self.median(job, |run| Some(run.load.median.as_secs_f64() * 1e6))?))
    }

    /// Compares round by round: what a noisy machine does to one, it does to the other.
    pub(crate) fn ratio(&self, job: Job) -> Option<Ratio> {
        let (runs, bare) = (self.runs.get(&job)?, self.runs.get(&job.bare())?);
        let ratios: Vec<f64> = runs.iter().zip(bare).map(|(run, bare)| run.rate() / bare.rate()).collect();
        Some(Ratio {
            median: median(ratios.clone())?,
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            most: ratios.iter().copied().fold(0.0, f64::max),
        })
    }

    /// Answers that should not have been: denials where nothing is to be denied, passes where all is,
    /// and no answer at all.
    pub(crate) fn flaws(&self, job: Job) -> u64 {
        let wrong = |run: &Measurement| {
            let load = &run.load;
            let wrong = if job.column == Column::Denied && job.candidate != "bare" {
                load.requests.saturating_sub(load.denied)
            } else {
                load.denied
            };
            wrong + load.broken
        };
        self.runs.get(&job).map_or(0, |runs| runs.iter().map(wrong).sum())
    }

    pub(crate) fn requests(&self, job: Job) -> u64 {
        self.runs.get(&job).map_or(0, |runs| runs.iter().map(|run| run.load.requests).sum())
    }

    /// Of the runs behind a long line.
    pub(crate) fn away(&self, candidate: &str, figure: impl Fn(&away::Run) -> Option<f64>) -> Option<f64> {
        median(self.away.get(candidate)?.iter().filter_map(figure).collect())
    }

    fn median(&self, job: Job, figure: impl Fn(&Measurement) -> Option<f64>) -> Option<f64> {
        median(self.runs.get(&job)?.iter().filter_map(figure).collect())
    }
}
