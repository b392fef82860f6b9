//! Asks sentinels which server is the master.

use std::collections::HashMap;

use redis::{ConnectionAddr, ErrorKind, RedisResult};
use tokio::task::JoinSet;

use super::Fault;
use super::endpoint::{Access, Endpoint};
use crate::store::redis::CONNECT_TIMEOUT;

/// The port of a sentinel whose URL has none.
const SENTINEL_PORT: u16 = 26_379;

const SENTINEL_GRAMMAR: &str = "write `redis://[user:password@]host[:port]`";

/// The sentinels, and the master that they are asked for.
pub(crate) struct Sentinels {
    name: String,
    asked: Vec<Endpoint>,
    /// How the master is greeted. Its address comes from the sentinels.
    master: Endpoint,
}

/// What one sentinel says of the master.
#[derive(Clone, PartialEq, Debug)]
struct Answer {
    host: String,
    port: u16,
    /// Grows with each failover that the sentinel has heard of.
    epoch: u64,
}

/// What the answers of all sentinels come to.
#[derive(Default)]
struct Said {
    /// The different answers of those who know of the latest failover, in the order in which they came. There is more
    /// than one if sentinels have different names for one server, or if a person is about to tell them of another.
    latest: Vec<Answer>,
    /// How many sentinels have answered.
    count: usize,
}

impl Said {
    fn note(&mut self, answer: Answer) {
        self.count += 1;
        let epoch = self.latest.first().map_or(0, |latest| latest.epoch);
        if answer.epoch > epoch {
            self.latest.clear();
        }
        if answer.epoch >= epoch && !self.latest.contains(&answer) {
            self.latest.push(answer);
        }
    }
}

impl Sentinels {
    /// Returns which master this is, and whom it is learnt from.
    pub(super) fn location(&self) -> String {
        let asked: Vec<String> = self.asked.iter().map(Endpoint::address).collect();
        format!("the master `{}` of {}, database {}", self.name, asked.join(", "), self.master.database())
    }

    /// Parses the URLs of the sentinels, and `master`, which is a name or a URL whose host is the name.
    pub(in super::super) fn parse(
        master: &str,
        sentinels: &[String],
        access: &Access,
    ) -> Result<Self, Fault> {
        if sentinels.is_empty() {
            return Err(format!("there is no sentinel to ask: {SENTINEL_GRAMMAR} of one or more"));
        }
        // The provider's credentials are for the master alone: the sentinels need not know that user.
        let mut own = access.clone();
        own.credentials = None;
        let sentinels = Endpoint::each("sentinel", sentinels, |url| sentinel(url, &own))?;
        let url = if master.contains("://") {
            master.to_owned()
        } else {
            let by_tls = sentinels.iter().all(is_tls);
            format!("{}://{master}", if by_tls { "rediss" } else { "redis" })
        };
        let grammar = "write the name that the sentinels `monitor`, or \
                       `redis://[user:password@]name[/database]` with that name";
        let endpoint =
            Endpoint::parse(&url, access, grammar).map_err(|fault| format!("the master: {fault}"))?;
        if redis::parse_redis_url(&url).is_some_and(|url| url.port().is_some()) {
            return Err(format!("this is no name of a master: {grammar}"));
        }
        let name = match endpoint.info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            _ => String::new(),
        };
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_part) {
            return Err(format!("this is no name of a master: {grammar}"));
        }
        Ok(Self { name, asked: sentinels, master: endpoint })
    }

    /// Returns where the master is now.
    ///
    /// All sentinels are asked at once. When most have answered, or half of the time to connect has passed, the answer
    /// that knows of the latest failover is believed: a sentinel that was cut off from the others may still
    /// report the master that they have replaced. So a dead or silent sentinel delays nothing as long as most of
    /// them answer.
    pub(super) async fn master(&self) -> RedisResult<Endpoint> {
        let said = self.ask_all().await?;
        Ok(self.master_at(&said.latest[0]))
    }

    /// Returns where the master is now, unless that is still `address`. Fails unless most sentinels have answered: one
    /// of those knows of the latest failover.
    pub(super) async fn master_elsewhere(&self, address: &str) -> RedisResult<Option<Endpoint>> {
        let said = self.ask_all().await?;
        if said.count < self.most() {
            return Err((ErrorKind::Io, "most sentinels do not answer").into());
        }
        let masters: Vec<Endpoint> = said.latest.iter().map(|answer| self.master_at(answer)).collect();
        let is_still_there = masters.iter().any(|master| master.address() == address);
        Ok(masters.into_iter().next().filter(|_| !is_still_there))
    }

    fn master_at(&self, answer: &Answer) -> Endpoint {
        self.master.at(answer.host.clone(), answer.port)
    }

    /// Returns how many sentinels are most of them.
    fn most(&self) -> usize {
        self.asked.len() / 2 + 1
    }

    /// Returns what the sentinels say, at least one of them.
    async fn ask_all(&self) -> RedisResult<Said> {
        // Dropping the set cancels what has not been answered by then.
        let mut answers = JoinSet::new();
        for sentinel in &self.asked {
            answers.spawn(ask(sentinel.clone(), self.name.clone()));
        }
        let mut said = Said::default();
        let mut failure = None;
        let listening = async {
            while let Some(answer) = answers.join_next().await {
                match answer {
                    Ok(Ok(answer)) => {
                        said.note(answer);
                        if said.count == self.most() {
                            return;
                        }
                    }
                    Ok(Err(error)) => failure = Some(error),
                    Err(_) => {}
                }
            }
        };
        let _ = tokio::time::timeout(CONNECT_TIMEOUT / 2, listening).await;
        if !said.latest.is_empty() {
            return Ok(said);
        }
        let why = failure.map_or_else(|| "none of them answers".to_owned(), |error| error.to_string());
        let asked: Vec<String> = self.asked.iter().map(Endpoint::address).collect();
        let detail = format!("`{}`, as asked of {}: {why}", self.name, asked.join(", "));
        Err((ErrorKind::Io, "no sentinel tells where the master is", detail).into())
    }
}

fn sentinel(url: &str, access: &Access) -> Result<Endpoint, Fault> {
    let endpoint = Endpoint::parse(url, access, SENTINEL_GRAMMAR)?;
    let address = endpoint.info().addr().clone();
    if endpoint.database() != 0 {
        return Err("a sentinel has no databases: the master has, as `redis://name/database`".to_owned());
    }
    let without_port = redis::parse_redis_url(url).is_some_and(|url| url.port().is_none());
    Ok(match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } if without_port => {
            endpoint.at(host, SENTINEL_PORT)
        }
        _ => endpoint,
    })
}

fn is_tls(endpoint: &Endpoint) -> bool {
    matches!(endpoint.info().addr(), ConnectionAddr::TcpTls { .. })
}

async fn ask(sentinel: Endpoint, name: String) -> RedisResult<Answer> {
    let mut connection = sentinel.connect(CONNECT_TIMEOUT / 2).await?;
    let address: Option<(String, u16)> =
        connection.query("SENTINEL", &["GET-MASTER-ADDR-BY-NAME", &name]).await?;
    let Some((host, port)) = address else {
        return Err((ErrorKind::MasterNameNotFoundBySentinel, "it is unknown to the sentinels").into());
    };
    // A sentinel that fails here, for lack of permission say, counts as knowing of no failover.
    let state: RedisResult<HashMap<String, String>> = connection.query("SENTINEL", &["MASTER", &name]).await;
    let epoch = state.ok().and_then(|state| state.get("config-epoch")?.parse().ok()).unwrap_or(0);
    Ok(Answer { host, port, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(master: &str, sentinels: &[&str]) -> Result<Sentinels, Fault> {
        let sentinels: Vec<String> = sentinels.iter().map(|&url| url.to_owned()).collect();
        Sentinels::parse(master, &sentinels, &Access::default())
    }

    #[test]
    fn a_master_is_a_name_or_a_url_with_the_name() {
        for (master, db) in [("My_master.1", 0), ("redis://u:p@My_master.1/3?protocol=resp3", 3)] {
            let sentinels = parse(master, &["redis://localhost"]).expect("it is a name");
            assert_eq!(
                (sentinels.name.as_str(), sentinels.master.info().redis_settings().db()),
                ("My_master.1", db)
            );
        }
    }

    #[test]
    fn a_sentinel_has_a_port_of_its_own() {
        let sentinels = parse("main", &["redis://a", "redis://b:7"]).expect("they are sentinels");
        let address = |index: usize| sentinels.asked[index].info().addr().clone();
        assert_eq!(address(0), ConnectionAddr::Tcp("a".to_owned(), 26_379));
        assert_eq!(address(1), ConnectionAddr::Tcp("b".to_owned(), 7));
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn a_master_is_reached_as_the_sentinels_are_unless_its_url_says_otherwise() {
        for (master, expected) in [("main", true), ("redis://main", false), ("rediss://main", true)] {
            assert_eq!(is_tls(&parse(master, &["rediss://a"]).expect("it is a name").master), expected);
        }
        assert!(!is_tls(&parse("main", &["redis://a"]).expect("it is a name").master));
    }

    #[test]
    fn those_are_believed_who_know_of_the_latest_failover_whatever_they_call_the_master() {
        let [old, new, by_name] = [("a", 1), ("b", 2), ("b.example", 2)].map(|(host, epoch)| Answer {
            host: host.to_owned(),
            port: 6_379,
            epoch,
        });
        let mut said = Said::default();
        for answer in [&old, &new, &old, &by_name, &new] {
            said.note(answer.clone());
        }
        assert_eq!((said.latest, said.count), (vec![new, by_name], 5));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (master, sentinels, words) in [
            ("main", &[][..], "one or more"),
            ("main", &["localhost:26379"][..], "write `redis://"),
            ("main", &["redis://a", "redis://b#", "redis://c"][..], "sentinel 2 of 3: nothing stands behind"),
            ("main", &["redis://localhost?db=1"][..], "sentinel 1 of 1: the database"),
            ("main", &["redis://localhost/1"][..], "no databases"),
            (
                "redis://:se/cret@main",
                &["redis://localhost"][..],
                "the master: Redis URL did not parse: in a",
            ),
            ("redis://main?db=1", &["redis://localhost"][..], "the master: the database does not stand"),
            ("", &["redis://localhost"][..], "name"),
            ("two words", &["redis://localhost"][..], "the name that the sentinels `monitor`"),
            ("localhost:6379", &["redis://localhost"][..], "the name that the sentinels `monitor`"),
            ("redis+unix:///main", &["redis://localhost"][..], "the name that the sentinels `monitor`"),
            ("redis://main/x", &["redis://localhost"][..], "Invalid database number"),
        ] {
            let fault = parse(master, sentinels).map(|_| ()).expect_err(master);
            assert!(fault.contains(words), "{master}: {fault}");
            assert!(!fault.contains("cret"), "no secret is told: {fault}");
        }
    }
}
