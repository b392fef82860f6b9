//! Where things are.

use std::path::{Path, PathBuf};

use crate::Result;

/// What the runs need and leave behind.
pub(crate) fn scratch() -> PathBuf {
    root().join("target/bench")
}

/// Where the figures are published.
pub(crate) fn docs() -> PathBuf {
    root().join("runtime/docs")
}

/// What wrk runs.
pub(crate) fn wrk_script() -> PathBuf {
    package().join("wrk.lua")
}

/// The article's application.
pub(crate) fn fastapi() -> PathBuf {
    package().join("fastapi/app.py")
}

/// The interpreter that has what the application needs, once tests/bench.sh has installed it.
pub(crate) fn python() -> PathBuf {
    scratch().join("venv/bin/python")
}

/// A program that is built beside this one, as the servers in Rust are.
pub(crate) fn beside(program: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(program))
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn root() -> PathBuf {
    package().ancestors().nth(2).unwrap_or(package()).to_owned()
}
