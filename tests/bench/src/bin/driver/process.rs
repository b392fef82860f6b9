//! Child processes, which are killed when the value that stands for them is dropped.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use bench::Column;

use crate::candidate::{Candidate, Kind};
use crate::{Result, paths};

/// How long a server may take to start; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child process. It is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) id: u32,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let program = command.as_std().get_program().to_owned();
        let started = command.stdin(Stdio::null()).kill_on_drop(true).spawn();
        let child = started.map_err(|error| format!("{}: {error}", program.display()))?;
        let id = child.id().ok_or("the process is gone")?;
        Ok(Self { child, id })
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) async fn stop(mut self) {
        // The process may have ended by itself; what counts is that it is gone.
        let _ = self.child.kill().await;
    }

    /// Returns the CPU time that the process has used, in whole clock ticks; `None` if the system does not tell.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).ok()?;
        // The second field is a name in parentheses, which may contain anything. User and system time are the
        // 14th and the 15th.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11);
        let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
        Some(tick * u32::try_from(user + system).ok()?)
    }
}

/// The running server of a candidate.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) url: String,
}

impl Service {
    pub(crate) async fn start(candidate: &Candidate, column: Column, redis: &str) -> Result<Self> {
        let mut command = if candidate.kind == Kind::FastApi {
            let mut command = Command::new(paths::python());
            command.arg(paths::fastapi()).arg(column.limit().to_string()).env("REDIS_URL", redis);
            command
        } else {
            let (program, id) = candidate.server();
            let mut command = Command::new(paths::beside(program)?);
            command.args([id, &column.to_string(), redis]);
            command
        };
        let mut process = Process::start(command.env_remove("RUST_LOG").stdout(Stdio::piped()))?;
        let output = process.child.stdout.take().ok_or("a server has an output")?;
        let line = timeout(PATIENCE, BufReader::new(output).lines().next_line()).await;
        let line = line.map_err(|_| format!("{} does not start", candidate.id))??;
        let port: u16 = line.ok_or_else(|| format!("{} ends at once", candidate.id))?.trim().parse()?;
        Ok(Self { process, url: format!("http://127.0.0.1:{port}/") })
    }
}

/// Runs a command, and returns what it prints.
pub(crate) async fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String> {
    let name = program.as_ref().display().to_string();
    let mut command = Command::new(program.as_ref());
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
