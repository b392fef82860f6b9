//! Measures what a rate limiter costs an axum service, for ours and its peers.
//!
//! `tests/bench.sh` installs what this program needs, builds it, and passes its arguments on to it.

mod arguments;
mod away;
mod burst;
mod candidate;
mod chart;
mod figures;
mod job;
mod line;
mod machine;
mod paths;
mod process;
mod redis;
mod report;
mod results;
mod round;
mod wrk;

use std::error::Error;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::machine::Machine;
use crate::redis::Redis;
use crate::report::Report;
use crate::results::Results;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Whichever ends first, the other is dropped here, and with it all processes that it has started are killed.
    let ended = tokio::select! {
        ended = run() => ended,
        ended = interruption() => ended,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn interruption() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Err("interrupted".into())
}

async fn run() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let candidate::Choice { candidates, left_out } = candidate::chosen(&arguments.only)?;
    let mut redis = Redis::start().await?;
    let mut results = Results::default();
    let line = line::open(redis.port, away::DELAY)?;
    for round in 0..arguments.rounds {
        round::run(round, &arguments, &candidates, &mut redis, &mut results).await?;
        away::run(round, &arguments, &candidates, (&mut redis, line), &mut results).await?;
    }
    for candidate in candidates.iter().filter(|candidate| candidate.limits()) {
        for _ in 0..arguments.bursts {
            let passed = burst::passed(candidate, &mut redis).await?;
            eprintln!("burst: {} let {passed} of {} through", candidate.id, burst::REQUESTS);
            results.bursts.entry(candidate.id).or_default().push(passed);
        }
    }
    let machine = Machine::look(&mut redis).await?;
    redis.stop().await;

    let report = Report {
        arguments: &arguments,
        candidates: &candidates,
        left_out: &left_out,
        results: &results,
        machine: &machine,
    };
    let (text, picture) = (report.to_string(), chart::Chart(&report).to_string());
    println!("{text}");
    let mut copies = vec![(paths::scratch(), "report.md")];
    if arguments.write {
        copies.push((paths::docs(), "benchmark.md"));
    }
    for (folder, name) in copies {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), &text)?;
        std::fs::write(folder.join("benchmark.svg"), &picture)?;
        eprintln!("written: {}", folder.join(name).display());
    }
    Ok(())
}
