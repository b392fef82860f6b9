//! Asks the nodes of a cluster which of them has which slots.

use std::time::Duration;

use redis::{ConnectionAddr, ErrorKind, RedisError, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Cluster;
use super::topology::{Address, SLOTS, UNKNOWN};
use crate::store::redis::CONNECT_TIMEOUT;
use crate::store::redis::connection::Endpoint;
use crate::store::redis::failure::Failure;

/// How many nodes are asked for the slots at once at first. A node that fails is replaced by another, and one more is
/// asked each time that none has answered for [`NEXT_IS_ASKED`].
pub(super) const ASKED_AT_ONCE: usize = 3;
const NEXT_IS_ASKED: Duration = Duration::from_millis(200);
/// How often nobody may answer for so long until a doubtful answer is taken for want of a better one.
const PATIENCE: usize = 3;

/// Which node has which slots, as one node reports it.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// The first slot, the last one, and the node that has them.
    pub(super) ranges: Vec<(u16, u16, Address)>,
    /// The identifiers of all nodes that have slots, and of their replicas.
    pub(super) ids: Vec<String>,
}

impl Assignment {
    /// Parses the reply to `CLUSTER SLOTS`. `asked` is the host that was asked, and replaces an empty host. The
    /// slots of a node whose host is unknown are left out.
    fn parse(reply: Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let mut ids: Vec<String> = Vec::new();
        let range = |range: Value| {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let (first, last) = (slot(&range.next()?)?, slot(&range.next()?)?);
            if first > last {
                return None;
            }
            for node in range.as_slice() {
                let Value::Array(node) = node else { continue };
                let id = node.get(2).and_then(text).filter(|id| !ids.iter().any(|known| known == id));
                ids.extend(id.map(str::to_owned));
            }
            let Value::Array(master) = range.next()? else { return None };
            let mut master = master.into_iter();
            let told = text(&master.next()?)?.to_owned();
            let Value::Int(port) = master.next()? else { return None };
            let port = u16::try_from(port).ok()?;
            // The node's identifier comes before its metadata.
            let told = if told == UNKNOWN { master.nth(1).and_then(ip) } else { Some(told) };
            let host = told.map(|told| if told.is_empty() { asked.to_owned() } else { told });
            Some(host.map(|host| (first, last, Address { host, port })))
        };
        let ranges = ranges.into_iter().map(range).collect::<Option<Vec<_>>>()?;
        Some(Self { ranges: ranges.into_iter().flatten().collect(), ids })
    }

    /// Whether it may be of the cluster whose nodes are `known`.
    fn is_of(&self, known: &[String]) -> bool {
        known.is_empty() || self.ids.iter().any(|id| known.contains(id))
    }

    pub(super) fn is_complete(&self) -> bool {
        let slots = self.ranges.iter().map(|(first, last, _)| (*first..=*last).len());
        slots.sum::<usize>() == usize::from(SLOTS)
    }
}

impl Cluster {
    /// Returns the assignment from the first node that answers and does not see the cluster as down. So many nodes are
    /// asked `at_once`.
    ///
    /// A node that has been removed from the cluster may go on running, and become part of another one. So an answer
    /// that leaves slots to nobody is taken only if no other node knows better, unless one is asked at a time. And so
    /// is one that names none of the nodes known so far, which has to come from a seed besides.
    pub(super) async fn assignment(&self, mut at_once: usize) -> Result<Assignment, Failure> {
        let topology = self.topology();
        let mut nodes: Vec<(Endpoint, bool)> = self.seeds.iter().map(|seed| (seed.clone(), true)).collect();
        for node in topology.nodes() {
            let node = self.seeds[0].at(node.address.host.clone(), node.address.port);
            if nodes.iter().all(|(known, _)| known.info().addr() != node.info().addr()) {
                nodes.push((node, false));
            }
        }
        fastrand::shuffle(&mut nodes);
        let (mut asked, mut failure) = (JoinSet::new(), Failure::NoConnection);
        let (mut doubtful, mut silences): (Option<(bool, Assignment)>, usize) = (None, 0);
        loop {
            while asked.len() < at_once
                && let Some((node, is_seed)) = nodes.pop()
            {
                asked.spawn(async move { (ask(node).await, is_seed) });
            }
            match timeout(NEXT_IS_ASKED, asked.join_next()).await {
                Ok(Some(Ok((Ok(assignment), is_seed)))) => {
                    let is_of_this = assignment.is_of(topology.ids());
                    if is_of_this && assignment.is_complete() {
                        return Ok(assignment);
                    }
                    // Whatever is missing has been missing for long.
                    if is_of_this && at_once == 1 {
                        return Ok(assignment);
                    }
                    let is_better = doubtful.as_ref().is_none_or(|(other_is, _)| is_of_this && !other_is);
                    if is_better && (is_of_this || is_seed) {
                        doubtful = Some((is_of_this, assignment));
                    }
                }
                Ok(Some(Ok((Err(error), _)))) => failure = error.into(),
                Ok(Some(Err(_))) => {}
                Ok(None) => return doubtful.map(|(_, assignment)| assignment).ok_or(failure),
                Err(_) => (at_once, silences) = (at_once + 1, silences + 1),
            }
            if silences > PATIENCE
                && let Some((_, assignment)) = doubtful.take()
            {
                return Ok(assignment);
            }
        }
    }
}

async fn ask(node: Endpoint) -> Result<Assignment, RedisError> {
    let host = match node.info().addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let mut connection = node.connect(CONNECT_TIMEOUT / 2).await?;
    let state: String = connection.query("CLUSTER", &["INFO"]).await?;
    if !state.contains("cluster_state:ok") {
        return Err((ErrorKind::Io, "the cluster is down, as one of its nodes sees it").into());
    }
    let slots = connection.query("CLUSTER", &["SLOTS"]).await?;
    let unreadable = || RedisError::from((ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS tells no slots"));
    Assignment::parse(slots, &host).ok_or_else(unreadable)
}

fn slot(value: &Value) -> Option<u16> {
    let Value::Int(slot) = value else { return None };
    u16::try_from(*slot).ok().filter(|slot| *slot < SLOTS)
}

/// Reads a string; null counts as an empty one.
fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(text) => str::from_utf8(text).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Nil => Some(""),
        _ => None,
    }
}

/// Finds the `ip` in the metadata of a node.
fn ip(known: Value) -> Option<String> {
    let known: Vec<(Value, Value)> = match known {
        Value::Map(known) => known,
        Value::Array(known) => {
            let mut known = known.into_iter();
            std::iter::from_fn(|| Some((known.next()?, known.next()?))).collect()
        }
        _ => return None,
    };
    let (_, ip) = known.iter().find(|(name, _)| text(name) == Some("ip"))?;
    text(ip).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_from_what_a_node_says() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |first, last, host: Value| {
            let replica = Value::Array(vec![text("192.0.2.9"), Value::Int(9)]);
            let master = Value::Array(vec![host, Value::Int(7), text("id"), Value::Array(vec![])]);
            Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
        };
        let half = Value::Array(vec![range(0, 8_191, text("192.0.2.8"))]);
        assert!(!Assignment::parse(half, "seed").expect("it is one").is_complete());
        let whole = Value::Array(vec![range(0, 8_191, text("192.0.2.8")), range(8_192, 16_383, Value::Nil)]);
        let whole = Assignment::parse(whole, "seed").expect("it is one");
        assert!(whole.is_complete());
        assert_eq!(whole.ranges[0].2, Address { host: "192.0.2.8".to_owned(), port: 7 });
        assert_eq!(whole.ranges[1].2, Address { host: "seed".to_owned(), port: 7 });
        let ranges = |first, last| Value::Array(vec![range(first, last, text("a"))]);
        for bad in [Value::Nil, Value::Array(vec![Value::Int(1)]), ranges(0, 16_384), ranges(1, 0)] {
            assert!(Assignment::parse(bad, "seed").is_none());
        }
    }

    #[test]
    fn a_node_without_a_name_is_found_by_its_address() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let addresses = |known: Option<Value>| {
            let master = [text("?"), Value::Int(7), text("id")].into_iter().chain(known).collect();
            let range = Value::Array(vec![Value::Int(0), Value::Int(16_383), Value::Array(master)]);
            let assignment = Assignment::parse(Value::Array(vec![range]), "seed").expect("it is one");
            assert_eq!(assignment.is_complete(), !assignment.ranges.is_empty());
            assignment.ranges.into_iter().map(|(_, _, address)| address.host).collect::<Vec<_>>()
        };
        let ip = || vec![(text("shard"), text("ip")), (text("ip"), text("192.0.2.8"))];
        assert_eq!(addresses(Some(Value::Map(ip()))), ["192.0.2.8"]);
        let flat = ip().into_iter().flat_map(|(name, value)| [name, value]).collect();
        assert_eq!(addresses(Some(Value::Array(flat))), ["192.0.2.8"]);
        // A node that does not know its own address yet.
        assert_eq!(addresses(Some(Value::Array(vec![text("ip"), text("")]))), ["seed"]);
        for unknown in [None, Some(Value::Array(vec![])), Some(Value::Map(vec![])), Some(Value::Nil)] {
            assert!(addresses(unknown).is_empty(), "its slots are nobody's");
        }
    }
}
