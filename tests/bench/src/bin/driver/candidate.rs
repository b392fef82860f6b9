//! The candidates: all services that can be measured.

use bench::Column;

use crate::{Result, paths};

/// A service with one limiter, or with none.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The name by which the servers know it, but for [`MIMALLOC`].
    pub(crate) id: &'static str,
    /// The name in the report.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) store: Store,
    /// Whether every answer tells the client of its quotas.
    pub(crate) fields: bool,
    /// The traffic it is measured under.
    pub(crate) columns: &'static [Column],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bare,
    Ours,
    Peer,
    /// Bare commands of Redis that limit little or nothing: how fast a limiter could be.
    Commands,
    /// A service in another language.
    FastApi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Store {
    None,
    Memory,
    Redis,
}

impl Store {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Memory => "memory",
            Self::Redis => "Redis",
        }
    }
}

const ALL: &[Column] = &Column::ALL;
const PASS: &[Column] = &[Column::Hot, Column::Keys];
const HOT_AND_DENIED: &[Column] = &[Column::Hot, Column::Denied];
const HOT: &[Column] = &[Column::Hot];
const DENIED: &[Column] = &[Column::Denied];
const NONE: &[Column] = &[];

const fn candidate(
    id: &'static str,
    name: &'static str,
    kind: Kind,
    store: Store,
    fields: bool,
    columns: &'static [Column],
) -> Candidate {
    Candidate { id, name, kind, store, fields, columns }
}

#[rustfmt::skip] // a table
const CANDIDATES: &[Candidate] = &[
    candidate("bare", "bare axum", Kind::Bare, Store::None, false, PASS),
    candidate("bare-fields", "bare axum, two static fields", Kind::Bare, Store::None, true, HOT),
    candidate("bare-layer", "bare axum, an idle layer and argument", Kind::Bare, Store::None, false, HOT),
    candidate("task", "bare axum, waiting for a task", Kind::Bare, Store::None, false, PASS),
    candidate("bare-mimalloc", "bare axum, mimalloc", Kind::Bare, Store::None, false, PASS),
    candidate("bare-denial", "bare axum, always denying", Kind::Bare, Store::None, false, DENIED),
    candidate("ours-memory", "axum-rate-limit, fields off", Kind::Ours, Store::Memory, false, ALL),
    candidate("ours-memory-fields", "axum-rate-limit", Kind::Ours, Store::Memory, true, HOT),
    candidate("ours-memory-outermost", "axum-rate-limit, outermost, fields off", Kind::Ours, Store::Memory, false, ALL),
    candidate("ours-memory-outermost-fields", "axum-rate-limit, outermost", Kind::Ours, Store::Memory, true, HOT),
    candidate("tower_governor", "tower_governor", Kind::Peer, Store::Memory, false, ALL),
    candidate("tower_governor-outermost", "tower_governor, outermost", Kind::Peer, Store::Memory, false, HOT),
    candidate("axum-governor", "axum-governor", Kind::Peer, Store::Memory, true, ALL),
    candidate("limitador-memory", "limitador", Kind::Peer, Store::Memory, false, ALL),
    candidate("ours-redis", "axum-rate-limit, fields off", Kind::Ours, Store::Redis, false, ALL),
    candidate("ours-redis-fields", "axum-rate-limit", Kind::Ours, Store::Redis, true, HOT_AND_DENIED),
    candidate("ours-redis-outermost", "axum-rate-limit, outermost, fields off", Kind::Ours, Store::Redis, false, ALL),
    candidate("ours-redis-outermost-fields", "axum-rate-limit, outermost", Kind::Ours, Store::Redis, true, HOT_AND_DENIED),
    candidate("ours-redis-mimalloc", "axum-rate-limit, fields off, mimalloc", Kind::Ours, Store::Redis, false, PASS),
    candidate("limitador-redis", "limitador", Kind::Peer, Store::Redis, false, ALL),
    candidate("limitador-cached", "limitador, cached", Kind::Peer, Store::Redis, false, ALL),
    candidate("axum-limit-redis", "axum-limit", Kind::Peer, Store::Redis, false, ALL),
    candidate("tower-rate-limiter-redis", "tower-rate-limiter", Kind::Peer, Store::Redis, true, ALL),
    candidate("incr-expire", "INCR, then EXPIRE", Kind::Commands, Store::Redis, false, ALL),
    candidate("evalsha", "one EVALSHA per request", Kind::Commands, Store::Redis, false, ALL),
    candidate("evalsha-nodelay", "one EVALSHA per request, TCP_NODELAY", Kind::Commands, Store::Redis, false, NONE),
    candidate("shared", "SET NX and INCRBY, shared by all that wait", Kind::Commands, Store::Redis, false, PASS),
    candidate("shared-ping", "PING, shared by all that wait", Kind::Commands, Store::Redis, false, PASS),
    candidate("incr", "one INCR per request", Kind::Commands, Store::Redis, false, PASS),
    candidate("fastapi", "FastAPI, INCR and EXPIRE", Kind::FastApi, Store::Redis, false, HOT_AND_DENIED),
];

/// The ending of the ids of candidates that allocate with mimalloc instead of the system's allocator.
const MIMALLOC: &str = "-mimalloc";

/// Returns the id of the candidate to compare with: the same service without a limiter.
pub(crate) fn bare(id: &str) -> &'static str {
    if id.ends_with(MIMALLOC) { "bare-mimalloc" } else { "bare" }
}

/// The candidates whose latency is measured, too.
pub(crate) const ONE_BY_ONE: [&str; 4] = ["bare", "ours-redis", "ours-redis-outermost", "evalsha"];
/// The candidates that are also measured with Redis far away.
pub(crate) const AWAY: [&str; 4] = ["bare", "ours-redis", "evalsha", "evalsha-nodelay"];

impl Candidate {
    /// Whether the candidate lets some requests through and denies others.
    pub(crate) fn limits(&self) -> bool {
        self.kind != Kind::Bare && self.columns.contains(&Column::Denied)
    }

    pub(crate) fn is_bare(&self) -> bool {
        self.id == bare(self.id)
    }

    /// Returns the program that serves the candidate, and the argument by which the program knows it.
    pub(crate) fn server(&self) -> (&'static str, &'static str) {
        match self.id.strip_suffix(MIMALLOC) {
            Some(id) => ("server-mimalloc", id),
            None => ("server", self.id),
        }
    }

    /// Returns why the candidate can't be measured here, if it can't.
    fn missing(&self) -> Option<&'static str> {
        match self.id {
            "limitador-redis" | "limitador-cached" if !cfg!(feature = "limitador-redis") => {
                Some("not built: its Redis storage needs its disk storage, which needs libclang and OpenSSL")
            }
            "tower-rate-limiter-redis" if !cfg!(feature = "tower-rate-limiter") => {
                Some("not built: it asks for a newer Rust")
            }
            "fastapi" if !paths::python().exists() => Some("not installed: needs Python 3 with venv"),
            _ => None,
        }
    }
}

/// The candidates that a run measures, and those that it can't, with the reasons.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) candidates: Vec<&'static Candidate>,
    pub(crate) left_out: Vec<(&'static str, &'static str)>,
}

/// Chooses bare axum and the candidates whose id contains one of `only`, or all candidates if `only` is empty.
pub(crate) fn chosen(only: &[String]) -> Result<Choice> {
    let is_meant = |candidate: &Candidate| only.iter().any(|part| candidate.id.contains(part.as_str()));
    if !only.is_empty() && !CANDIDATES.iter().any(is_meant) {
        let known: Vec<&str> = CANDIDATES.iter().map(|candidate| candidate.id).collect();
        return Err(format!("--only leaves nothing of {}", known.join(", ")).into());
    }
    let mut choice = Choice::default();
    for candidate in CANDIDATES {
        if only.is_empty() || is_meant(candidate) || candidate.is_bare() {
            match candidate.missing() {
                Some(reason) => choice.left_out.push((candidate.id, reason)),
                None => choice.candidates.push(candidate),
            }
        }
    }
    Ok(choice)
}
