//! The paths of what the driver reads, runs and writes.

use std::path::{Path, PathBuf};

use crate::Result;

/// Returns the directory for what the runs need and leave behind.
pub(crate) fn scratch() -> PathBuf {
    root().join("target/bench")
}

/// Returns the directory in which the figures are published.
pub(crate) fn docs() -> PathBuf {
    root().join("runtime/docs")
}

/// Returns the script that wrk runs.
pub(crate) fn wrk_script() -> PathBuf {
    package().join("wrk.lua")
}

/// Returns the path of the FastAPI application.
pub(crate) fn fastapi() -> PathBuf {
    package().join("fastapi/app.py")
}

/// Returns the interpreter with the packages that the application needs, once tests/bench.sh has installed them.
pub(crate) fn python() -> PathBuf {
    scratch().join("venv/bin/python")
}

/// Returns a program that is built beside this one, as the servers in Rust are.
pub(crate) fn beside(program: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(program))
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn root() -> PathBuf {
    package().ancestors().nth(2).unwrap_or(package()).to_owned()
}
