//! The report: all figures as Markdown.

use std::fmt;

use bench::{Column, DENIED_LIMIT};

use crate::arguments::Arguments;
use crate::away;
use crate::burst;
use crate::candidate::{AWAY, Candidate, ONE_BY_ONE, Store};
use crate::figures::{or_dash, thousands};
use crate::job::{CLOSE_RUNS, FEW, Job, MANY};
use crate::machine::Machine;
use crate::results::Results;

pub(crate) struct Report<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) candidates: &'a [&'static Candidate],
    /// The candidates that could not be measured, and why.
    pub(crate) left_out: &'a [(&'static str, &'static str)],
    pub(crate) results: &'a Results,
    pub(crate) machine: &'a Machine,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        for column in Column::ALL {
            self.column(f, column)?;
        }
        self.latency(f)?;
        self.away(f)?;
        self.exactness(f)?;
        self.flaws(f)?;
        self.method(f)
    }
}

impl Report<'_> {
    /// Returns the candidates measured under this traffic: first those without counters, then those in memory,
    /// then those on Redis, the fastest of each first.
    pub(crate) fn ranked(&self, column: Column) -> Vec<&'static Candidate> {
        let rate =
            |candidate: &Candidate| self.results.rate(Job::new(candidate.id, column)).unwrap_or_default();
        let has = |candidate: &&Candidate| self.results.has(Job::new(candidate.id, column));
        let mut ranked: Vec<&Candidate> = self.candidates.iter().copied().filter(has).collect();
        ranked.sort_by(|one, other| one.store.cmp(&other.store).then(rate(other).total_cmp(&rate(one))));
        ranked
    }

    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, system, date, .. } = self.machine;
        writeln!(f, "# What it costs\n")?;
        writeln!(f, "Measured by `bash tests/bench.sh` on {date}: {processor}; {system}.\n")?;
        writeln!(f, "![What remains of bare axum's throughput](benchmark.svg)\n")
    }

    fn column(&self, f: &mut fmt::Formatter<'_>, column: Column) -> fmt::Result {
        let ranked = self.ranked(column);
        if ranked.is_empty() {
            return Ok(());
        }
        writeln!(f, "## {}\n", heading(column))?;
        writeln!(
            f,
            "| | counters in | fields | requests/s | of bare axum | ± | service, CPU µs | Redis, CPU µs | Redis calls |"
        )?;
        writeln!(f, "|---|---|---|--:|--:|--:|--:|--:|--:|")?;
        for candidate in ranked {
            let job = Job::new(candidate.id, column);
            let store = candidate.store;
            let on_redis = |figure: Option<f64>| figure.filter(|_| store == Store::Redis);
            let ratio = self.results.ratio(job);
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                candidate.name,
                store.name(),
                if candidate.fields { "yes" } else { "no" },
                self.results.rate(job).map(thousands).unwrap_or_default(),
                or_dash(ratio.map(|ratio| ratio.mean), 2),
                or_dash(ratio.and_then(|ratio| ratio.error), 2),
                or_dash(self.results.service(job), 1),
                or_dash(on_redis(self.results.redis(job)), 1),
                or_dash(on_redis(self.results.calls(job)), 2),
            )?;
        }
        writeln!(f)
    }

    fn latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = |candidate: &&&Candidate| ONE_BY_ONE.contains(&candidate.id);
        let [one, eight] = FEW;
        writeln!(f, "## Over few connections\n")?;
        writeln!(
            f,
            "| one hot key | counters in | {one} connection: mean µs | median µs | requests/s | {eight} connections: requests/s | Redis calls |"
        )?;
        writeln!(f, "|---|---|--:|--:|--:|--:|--:|")?;
        for candidate in self.candidates.iter().filter(measured) {
            let [one, eight] =
                FEW.map(|connections| Job { connections, ..Job::new(candidate.id, Column::Hot) });
            let latency = self.results.latency(one);
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} |",
                candidate.name,
                candidate.store.name(),
                or_dash(latency.map(|(mean, _)| mean), 0),
                or_dash(latency.map(|(_, median)| median), 0),
                self.results.rate(one).map(thousands).unwrap_or_default(),
                self.results.rate(eight).map(thousands).unwrap_or_default(),
                or_dash(self.results.calls(eight).filter(|_| candidate.store == Store::Redis), 2),
            )?;
        }
        writeln!(f)
    }

    fn away(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = away::DELAY.as_millis();
        writeln!(f, "## With Redis {delay} ms away\n")?;
        writeln!(
            f,
            "| {} requests per second at random times, of 10,000 clients | counters in | mean ms | median ms | 99 of 100 within ms | Redis calls |",
            thousands(away::RATE)
        )?;
        writeln!(f, "|---|---|--:|--:|--:|--:|")?;
        for candidate in self.candidates.iter().filter(|candidate| AWAY.contains(&candidate.id)) {
            let figure = |figure: &dyn Fn(&away::Run) -> Option<f64>| self.results.away(candidate.id, figure);
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} |",
                candidate.name,
                candidate.store.name(),
                or_dash(figure(&|run| Some(run.mean())), 2),
                or_dash(figure(&|run| run.within(0.5)), 2),
                or_dash(figure(&|run| run.within(0.99)), 2),
                or_dash(figure(&|run| Some(run.calls())).filter(|_| candidate.store == Store::Redis), 2),
            )?;
        }
        writeln!(f)
    }

    fn exactness(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.results.bursts.is_empty() {
            return Ok(());
        }
        writeln!(f, "## Exactness\n")?;
        writeln!(
            f,
            "Of {} simultaneous requests, under a limit of {DENIED_LIMIT} per hour (FastAPI: per minute), these passed:\n",
            thousands_of(burst::REQUESTS)
        )?;
        writeln!(f, "| | counters in | passed |\n|---|---|--:|")?;
        for candidate in self.candidates {
            let Some(passed) = self.results.bursts.get(candidate.id) else { continue };
            let (least, most) = (passed.iter().min().unwrap_or(&0), passed.iter().max().unwrap_or(&0));
            let range = if least == most { most.to_string() } else { format!("{least} to {most}") };
            writeln!(f, "| {} | {} | {range} |", candidate.name, candidate.store.name())?;
        }
        writeln!(f)
    }

    fn flaws(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = self.results;
        let flawed: Vec<Job> = results.runs.keys().copied().filter(|job| results.flaws(*job) > 0).collect();
        let denied = |runs: &Vec<away::Run>| runs.iter().map(|run| run.denied).sum::<usize>();
        let away: Vec<_> = results.away.iter().filter(|(_, runs)| denied(runs) > 0).collect();
        let is_flawed = !(flawed.is_empty() && away.is_empty());
        if is_flawed {
            writeln!(f, "## Wrong answers\n")?;
        }
        for job in &flawed {
            let (flaws, all) = (results.flaws(*job), results.requests(*job));
            let Job { candidate, column, connections } = job;
            writeln!(
                f,
                "* `{candidate}`, {}, {connections} connections: {flaws} of {all} requests were answered wrongly or not at all.",
                heading(*column)
            )?;
        }
        for (candidate, runs) in away {
            let all: usize = runs.iter().map(away::Run::requests).sum();
            writeln!(f, "* `{candidate}`, with Redis away: {} of {all} requests were denied.", denied(runs))?;
        }
        if is_flawed {
            writeln!(f)?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "## Left out\n")?;
            for (id, reason) in self.left_out {
                writeln!(f, "* `{id}`: {reason}.")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn method(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arguments { rounds, duration, .. } = self.arguments;
        let seconds = duration.as_secs();
        writeln!(f, "## How\n")?;
        writeln!(
            f,
            "* Rounds: {rounds}. In each round, every candidate serves the same handler, which answers `ok`, for {seconds} s (`wrk -t1 -c{MANY} -d{seconds}s`), in a process that is started for the run; without Redis, {CLOSE_RUNS} times, since those are closer to each other. The order rotates from round to round."
        )?;
        writeln!(f, "{METHOD}")?;
        writeln!(f, "* Versions: {}.", self.machine.versions.join(", "))
    }
}

const METHOD: &str = "\
* wrk, the service and Redis share the processors, so a processor that Redis or wrk uses is missing elsewhere. A \
ratio is to bare axum under the same traffic: of the geometric means of all runs, with its standard error (±). Other \
figures are medians.
* Services are built in release mode with thin LTO and one codegen unit, and run on Tokio's default multi-threaded \
runtime. They use the system's allocator (here glibc's) unless marked \"mimalloc\"; those are compared with bare \
axum on mimalloc. FastAPI is served by uvicorn: one process, uvloop, no access log.
* CPU is the process's CPU time, as the system reports it, divided by the number of requests. Redis calls are the \
commands that clients sent. Commands within a script (this crate, limitador) are not counted, and a transaction of \
this crate counts as one.
* There is one Redis server, reached over TCP on loopback, without persistence. It is emptied before each run.
* \"Fields\" says whether responses report the quota, as those of this crate and axum-governor do by default.
* With Redis away, a proxy delays the answers of Redis, and requests are sent without waiting for earlier answers. \
The `redis` crate leaves Nagle's algorithm on by default: TCP then holds back small packets until earlier ones are \
acknowledged. This crate turns it off.
* Bare axum never denies. Where nearly all requests are denied, the comparison is with bare axum admitting them all.
* limitador is not a middleware; an extractor calls it. This crate, axum-limit, tower-rate-limiter and limitador \
count in fixed windows; tower_governor and axum-governor are token buckets.
* All limiters run with their defaults, except this crate on Redis: it waits up to 2 s for the store and then denies \
instead of counting in memory, so that a failing store shows as wrong answers and not as speed.
* limitador is linked without RocksDB, which nothing here calls. tower-rate-limiter is built with this Rust, \
although its manifest asks for 1.96.";

/// Returns the heading of a table or a panel.
pub(crate) fn heading(column: Column) -> &'static str {
    match column {
        Column::Hot => "One hot key",
        Column::Keys => "10,000 keys in turn",
        Column::Denied => "Nearly all denied",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a small constant")]
fn thousands_of(count: usize) -> String {
    thousands(count as f64)
}
