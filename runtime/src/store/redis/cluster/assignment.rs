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

/// How many nodes are asked for the slots at once. A node that fails is replaced by another, and one more is
/// asked each time that none has answered for [`NEXT_IS_ASKED`].
const ASKED_AT_ONCE: usize = 3;
const NEXT_IS_ASKED: Duration = Duration::from_millis(200);

/// Which node has which slots, as one node reports it.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// The first slot, the last one, and the node that has them.
    pub(super) ranges: Vec<(u16, u16, Address)>,
}

impl Assignment {
    /// Parses the reply to `CLUSTER SLOTS`. `asked` is the host that was asked, and replaces an empty host. The
    /// slots of a node whose host is unknown are left out.
    fn parse(reply: Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let range = |range: Value| {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let (first, last) = (slot(&range.next()?)?, slot(&range.next()?)?);
            if first > last {
                return None;
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
        Some(Self { ranges: ranges.into_iter().flatten().collect() })
    }

    pub(super) fn is_complete(&self) -> bool {
        let slots = self.ranges.iter().map(|(first, last, _)| (*first..=*last).len());
        slots.sum::<usize>() == usize::from(SLOTS)
    }
}

impl Cluster {
    /// Returns the assignment from the first node that answers and does not see the cluster as down.
    pub(super) async fn assignment(&self) -> Result<Assignment, Failure> {
        let mut nodes = self.seeds.clone();
        for node in self.topology().nodes() {
            let node = self.seeds[0].at(node.address.host.clone(), node.address.port);
            if nodes.iter().all(|known| known.info().addr() != node.info().addr()) {
                nodes.push(node);
            }
        }
        fastrand::shuffle(&mut nodes);
        let (mut asked, mut failure) = (JoinSet::new(), Failure::NoConnection);
        let mut at_once = ASKED_AT_ONCE;
        loop {
            while asked.len() < at_once
                && let Some(node) = nodes.pop()
            {
                asked.spawn(ask(node));
            }
            match timeout(NEXT_IS_ASKED, asked.join_next()).await {
                Ok(Some(Ok(Ok(assignment)))) => return Ok(assignment),
                Ok(Some(Ok(Err(error)))) => failure = error.into(),
                Ok(Some(Err(_))) => {}
                Ok(None) => return Err(failure),
                Err(_) => at_once += 1,
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
