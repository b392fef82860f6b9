//! Which node of a cluster has which slot.

use std::sync::Arc;

use redis::Value;

use crate::store::redis::lane::Lane;

/// How many slots a cluster has, of which each key is in one.
const SLOTS: u16 = 16_384;
/// The node of a slot that nobody has.
const NOBODY: u16 = u16::MAX;

/// The slot of a key: the CRC16 of its hash tag.
///
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

impl Slot {
    pub(super) fn of(key: &str) -> Self {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
        Self(crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS)
    }
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// `192.0.2.7:6379`, `::1:6379`; none if the node does not know its own host.
    pub(super) fn parse(address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        (!host.is_empty()).then(|| Some(Self { host: host.to_owned(), port: port.parse().ok()? }))?
    }
}

/// Who has which slots, as a node tells it.
#[derive(Debug, Default)]
pub(super) struct Assignment(Vec<(u16, u16, Address)>);

impl Assignment {
    /// What `CLUSTER SLOTS` answers; `host` is where it was asked, for nodes that do not know theirs.
    pub(super) fn parse(reply: Value, host: &str) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let range = |range: Value| {
            let Value::Array(range) = range else { return None };
            let mut range = range.into_iter();
            let (first, last) = (slot(&range.next()?)?, slot(&range.next()?)?);
            let Value::Array(master) = range.next()? else { return None };
            let mut master = master.into_iter();
            let told = match master.next()? {
                Value::BulkString(host) => String::from_utf8(host).ok()?,
                Value::SimpleString(host) => host,
                _ => String::new(),
            };
            let host = if matches!(told.as_str(), "" | "?") { host.to_owned() } else { told };
            let Value::Int(port) = master.next()? else { return None };
            Some((first, last, Address { host, port: u16::try_from(port).ok()? }))
        };
        ranges.into_iter().map(range).collect::<Option<_>>().map(Self)
    }

    pub(super) fn is_complete(&self) -> bool {
        let slots = self.0.iter().map(|(first, last, _)| usize::from(last - first) + 1);
        slots.sum::<usize>() == usize::from(SLOTS)
    }
}

fn slot(value: &Value) -> Option<u16> {
    let Value::Int(slot) = value else { return None };
    u16::try_from(*slot).ok().filter(|slot| *slot < SLOTS)
}

/// The masters, and who has which slot.
#[derive(Clone, Default)]
pub(super) struct Topology {
    nodes: Vec<(Address, Arc<Lane>)>,
    /// Indices of nodes; nobody has those beyond the end.
    slots: Vec<u16>,
}

impl Topology {
    /// That of `assignment`, with the lanes there are, and new ones for nodes that have none.
    pub(super) fn of(assignment: Assignment, known: &Self, lane: impl Fn() -> Arc<Lane>) -> Self {
        let mut topology = Self::default();
        for (first, last, address) in assignment.0 {
            let known = || known.lane_at(&address).unwrap_or_else(&lane);
            let node = topology.node(address.clone(), known);
            for slot in first..=last {
                topology.set(Slot(slot), node);
            }
        }
        topology
    }

    /// Gives `slot` to the node at `address`.
    pub(super) fn assign(
        &mut self,
        slot: Slot,
        address: Address,
        lane: impl FnOnce() -> Arc<Lane>,
    ) -> Arc<Lane> {
        let node = self.node(address, lane);
        self.set(slot, node);
        Arc::clone(&self.nodes[node].1)
    }

    fn node(&mut self, address: Address, lane: impl FnOnce() -> Arc<Lane>) -> usize {
        let known = self.nodes.iter().position(|(node, _)| *node == address);
        known.unwrap_or_else(|| {
            self.nodes.push((address, lane()));
            self.nodes.len() - 1
        })
    }

    fn set(&mut self, slot: Slot, node: usize) {
        if self.slots.is_empty() {
            self.slots = vec![NOBODY; SLOTS.into()];
        }
        self.slots[usize::from(slot.0)] = u16::try_from(node).unwrap_or(NOBODY);
    }

    pub(super) fn lane_of(&self, slot: Slot) -> Option<Arc<Lane>> {
        let node = *self.slots.get(usize::from(slot.0))?;
        self.nodes.get(usize::from(node)).map(|(_, lane)| Arc::clone(lane))
    }

    pub(super) fn lane_at(&self, address: &Address) -> Option<Arc<Lane>> {
        self.nodes().find(|(node, _)| *node == address).map(|(_, lane)| Arc::clone(lane))
    }

    /// A key that nobody has, in a slot of the node at `address`.
    pub(super) fn key_at(&self, address: &Address) -> Option<String> {
        let node = self.nodes.iter().position(|(node, _)| node == address)?;
        let is_there = |key: &String| {
            self.slots.get(usize::from(Slot::of(key).0)).is_some_and(|other| usize::from(*other) == node)
        };
        // Some keys for each slot, since chance does not spread them evenly.
        (0..u32::from(SLOTS) * 16).map(|number| format!("rl:{{}}{number}")).find(is_there)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Address, &Arc<Lane>)> {
        self.nodes.iter().map(|(address, lane)| (address, lane))
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.nodes.iter().map(|(_, lane)| lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16::State::<crc16::XMODEM>::calculate(b"123456789"), 0x31c3);
        assert_eq!(Slot::of("foo"), Slot(12_182));
        assert_eq!(Slot::of("rl:{foo}60000"), Slot::of("foo"));
        assert_eq!(Slot::of("{}foo"), Slot(crc16::State::<crc16::XMODEM>::calculate(b"{}foo") % SLOTS));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [("192.0.2.7:1", "192.0.2.7", 1), ("::1:7000", "::1", 7_000)] {
            assert_eq!(Address::parse(text), Some(Address { host: host.to_owned(), port }));
        }
        for text in ["", ":7000", "host", "host:", "host:70000"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

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
        assert_eq!(whole.0[0].2, Address { host: "192.0.2.8".to_owned(), port: 7 });
        assert_eq!(whole.0[1].2, Address { host: "seed".to_owned(), port: 7 });
        for bad in
            [Value::Nil, Value::Array(vec![Value::Int(1)]), Value::Array(vec![range(0, 16_384, text("a"))])]
        {
            assert!(Assignment::parse(bad, "seed").is_none());
        }
    }
}
