//! The load generator wrk, and the figures that it reports.

use std::time::Duration;

use bench::Column;
use tokio::process::Command;

use crate::job::Job;
use crate::{Result, paths};

/// The figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) time: Duration,
    /// Answers that were neither 2xx nor 3xx.
    pub(crate) denied: u64,
    /// Requests that were never answered.
    pub(crate) broken: u64,
    /// The mean and the median time until an answer.
    pub(crate) mean: Duration,
    pub(crate) median: Duration,
}

pub(crate) async fn run(job: Job, duration: Duration, url: &str) -> Result<Load> {
    let mut command = Command::new("wrk");
    command.args(["-t1", &format!("-c{}", job.connections), &format!("-d{}s", duration.as_secs()), "-s"]);
    command.arg(paths::wrk_script()).arg(url);
    if job.column == Column::Keys {
        command.args(["--", "keys"]);
    }
    let output = command.kill_on_drop(true).output().await.map_err(|error| format!("wrk: {error}"))?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    parse(&text).ok_or_else(|| format!("wrk tells no figures:\n{text}{errors}").into())
}

/// Parses the line that the script writes.
fn parse(text: &str) -> Option<Load> {
    let line = text.lines().find_map(|line| line.strip_prefix("figures "))?;
    let figure = |name: &str| {
        let values = line.split(' ').filter_map(|figure| figure.split_once('='));
        values.into_iter().find(|(known, _)| *known == name)?.1.parse::<f64>().ok()
    };
    let micros = |name| Some(Duration::from_secs_f64(figure(name)? / 1e6));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, as Lua has it")]
    let count = |name| Some(figure(name)? as u64);
    Some(Load {
        requests: count("requests")?,
        time: micros("micros")?,
        denied: count("denied")?,
        broken: count("broken")?,
        mean: micros("mean")?,
        median: micros("median")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_script_writes() {
        let load =
            parse("Running 1s test\nfigures requests=9 micros=1000000 denied=2 broken=1 mean=1.5 median=1.0");
        let load = load.expect("the line is there");
        assert_eq!((load.requests, load.denied, load.broken), (9, 2, 1));
        assert_eq!((load.time, load.mean), (Duration::from_secs(1), Duration::from_nanos(1500)));
        assert_eq!(parse("unable to connect"), None);
    }
}
