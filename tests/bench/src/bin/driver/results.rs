//! All measurements, and the figures that follow from them.

use std::collections::BTreeMap;
use std::time::Duration;

use bench::Column;

use crate::away;
use crate::figures::{Estimate, median};
use crate::job::Job;
use crate::round::Measurement;

#[derive(Debug, Default)]
pub(crate) struct Results {
    /// For each job, the same number of runs in each round.
    pub(crate) runs: BTreeMap<Job, Vec<Measurement>>,
    /// For each candidate, one run in each round behind a long line to Redis.
    pub(crate) away: BTreeMap<&'static str, Vec<away::Run>>,
    /// For each candidate, how many requests of each burst passed.
    pub(crate) bursts: BTreeMap<&'static str, Vec<usize>>,
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
impl Measurement {
    /// Returns the requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.load.requests as f64 / self.load.time.as_secs_f64()
    }

    /// Returns the share of one request in `time`, in microseconds.
    fn share(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.load.requests as f64
    }

    /// Returns the commands that clients sent to Redis, per request.
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

    /// Returns the CPU time that the service used per request, in microseconds.
    pub(crate) fn service(&self, job: Job) -> Option<f64> {
        self.median(job, |run| run.service.map(|time| run.share(time)))
    }

    /// Returns the CPU time that Redis used per request, in microseconds.
    pub(crate) fn redis(&self, job: Job) -> Option<f64> {
        self.median(job, |run| run.redis.map(|time| run.share(time)))
    }

    /// Returns the commands that clients sent to Redis, per request.
    pub(crate) fn calls(&self, job: Job) -> Option<f64> {
        self.median(job, |run| Some(run.calls()))
    }

    /// Returns the mean and the median latency, in microseconds.
    pub(crate) fn latency(&self, job: Job) -> Option<(f64, f64)> {
        let mean = self.median(job, |run| Some(run.load.mean.as_secs_f64() * 1e6))?;
        Some((mean, self.median(job, |run| Some(run.load.median.as_secs_f64() * 1e6))?))
    }

    /// Returns the throughput as a ratio of bare axum's. Throughputs differ by factors, so the means are geometric.
    /// There is no error of bare axum itself.
    pub(crate) fn ratio(&self, job: Job) -> Option<Estimate> {
        let logarithm = |job| {
            let rates = self.runs.get(&job)?.iter().map(Measurement::rate);
            Estimate::of(&rates.map(f64::ln).collect::<Vec<_>>())
        };
        let (own, bare) = (logarithm(job)?, logarithm(job.bare())?);
        let mean = (own.mean - bare.mean).exp();
        let errors = own.error.zip(bare.error).filter(|_| job != job.bare());
        Some(Estimate { mean, error: errors.map(|(own, bare)| mean * own.hypot(bare)) })
    }

    /// Returns the number of wrong answers: denials where nothing is to be denied, passes where everything is,
    /// and missing answers.
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

    /// Returns the median of a figure of the runs behind a long line.
    pub(crate) fn away(&self, candidate: &str, figure: impl Fn(&away::Run) -> Option<f64>) -> Option<f64> {
        median(self.away.get(candidate)?.iter().filter_map(figure).collect())
    }

    fn median(&self, job: Job, figure: impl Fn(&Measurement) -> Option<f64>) -> Option<f64> {
        median(self.runs.get(&job)?.iter().filter_map(figure).collect())
    }
}
