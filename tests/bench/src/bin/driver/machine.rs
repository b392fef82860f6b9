//! The machine that was measured on, and the versions of what was measured.

use crate::process::output;
use crate::redis::Redis;
use crate::{Result, paths};

/// The packages whose versions the report lists.
const CRATES: [&str; 11] = [
    "axum",
    "hyper",
    "tokio",
    "redis",
    "axum-rate-limit",
    "tower_governor",
    "axum-governor",
    "limitador",
    "axum-limit",
    "tower-rate-limiter",
    "mimalloc",
];

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) system: String,
    pub(crate) date: String,
    pub(crate) versions: Vec<String>,
}

impl Machine {
    pub(crate) async fn look(redis: &mut Redis) -> Result<Self> {
        let cores = std::thread::available_parallelism()?;
        let mut versions = vec![
            output("rustc", &["--version"]).await.unwrap_or_default(),
            format!("redis-server {}", redis.version().await?),
        ];
        let wrk = output("wrk", &["-v"]).await.unwrap_or_default();
        versions.push(wrk.split(" [").next().unwrap_or_default().to_owned());
        versions.extend(crates());
        versions.extend(python().await);
        versions.retain(|version| !version.is_empty());
        Ok(Self {
            processor: format!("{}, {cores} cores", processor()),
            system: output("uname", &["-srm"]).await?,
            date: chrono::Local::now().format("%Y-%m-%d").to_string(),
            versions,
        })
    }
}

fn processor() -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

/// Returns the names and versions of [`CRATES`], from the lock file that this program is built with.
fn crates() -> impl Iterator<Item = String> {
    let mut lines = include_str!("../../../Cargo.lock").lines().peekable();
    std::iter::from_fn(move || {
        loop {
            let name = lines.next()?.strip_prefix("name = ");
            let version = lines.peek().and_then(|line| line.strip_prefix("version = "));
            if let (Some(name), Some(version)) = (name, version) {
                let (name, version) = (name.trim_matches('"'), version.trim_matches('"'));
                // limitador depends on a `redis` of its own.
                if CRATES.contains(&name) && !(name == "redis" && version.starts_with("0.")) {
                    return Some(format!("{name} {version}"));
                }
            }
        }
    })
}

async fn python() -> Vec<String> {
    if !paths::python().exists() {
        return Vec::new();
    }
    let code = "import platform, importlib.metadata as m
print('Python', platform.python_version())
for name in ('fastapi', 'uvicorn', 'redis'): print(name, m.version(name), '(Python)')";
    let text = output(paths::python(), &["-c", code]).await.unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
