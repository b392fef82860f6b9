//! The arguments of the driver.

use std::time::Duration;

use crate::Result;

const HELP: &str = "arguments of tests/bench.sh:
  --rounds N        how often each candidate is measured (5)
  --seconds N       for how long each time (BENCH_SECONDS, or 4)
  --only a,b,…      only candidates whose name contains one of these, and bare axum
  --quick           one round of one second: whether all of it runs, not how fast
  --write           the figures go to runtime/docs, too; not with --only or --quick";

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) only: Vec<String>,
    /// How many bursts are sent to each limiter, to count what it lets through.
    pub(crate) bursts: usize,
    pub(crate) write: bool,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let seconds = std::env::var("BENCH_SECONDS").ok().map(|seconds| number("BENCH_SECONDS", &seconds));
        let (mut rounds, mut seconds, mut quick) = (5, seconds.transpose()?.unwrap_or(4), false);
        let (mut only, mut write) = (Vec::new(), false);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{HELP}"));
            match argument.as_str() {
                "--rounds" => rounds = number(&argument, &value()?)?,
                "--seconds" => seconds = number(&argument, &value()?)?,
                "--only" => only.extend(value()?.split(',').map(str::to_owned)),
                "--quick" => quick = true,
                "--write" => write = true,
                _ => return Err(format!("{argument} is not known\n{HELP}").into()),
            }
        }
        if write && (quick || !only.is_empty()) {
            return Err("--write publishes a whole run: not with --only or --quick".into());
        }
        if quick {
            (rounds, seconds) = (1, 1);
        }
        let rounds = usize::try_from(rounds)?;
        let duration = Duration::from_secs(seconds);
        Ok(Self { rounds, duration, only, bursts: if quick { 1 } else { 3 }, write })
    }
}

fn number(name: &str, value: &str) -> Result<u64> {
    match value.parse() {
        Ok(0) | Err(_) => Err(format!("{name} has to be a whole number above 0, not {value:?}").into()),
        Ok(number) => Ok(number),
    }
}
