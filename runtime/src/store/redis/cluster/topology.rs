//! Which node of a cluster has which slot.

use std::sync::Arc;

use super::assignment::Assignment;
use crate::store::redis::connection::unused_key;
use crate::store::redis::lane::Lane;

/// How many slots a cluster has. Each key is in one of them.
pub(super) const SLOTS: u16 = 16_384;
/// The index that stands for no node, in the place of a slot's node.
const NOBODY: u16 = u16::MAX;
/// The host that is reported for a node without a hostname, where the cluster reports hostnames.
pub(super) const UNKNOWN: &str = "?";

/// The slot of a key: the CRC16 of its hash tag.
///
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u16);

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
    /// Parses `192.0.2.7:6379` or `::1:6379`. `asked` is the host of the node that reported the address, and
    /// replaces an empty host. Returns `None` if that node does not know the host.
    pub(super) fn parse(address: &str, asked: &str) -> Option<Self> {
        let (told, port) = address.rsplit_once(':')?;
        let host = if told.is_empty() { asked } else { told };
        (host != UNKNOWN).then(|| Some(Self { host: host.to_owned(), port: port.parse().ok()? }))?
    }
}

/// A master, and the lane where checks wait for it.
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) lane: Arc<Lane>,
}

/// The masters, and which of them has which slot.
#[derive(Clone, Default)]
pub(super) struct Topology {
    nodes: Vec<Arc<Node>>,
    /// For each slot, the index of its node in `nodes`. An index past the end, such as [`NOBODY`], means no node.
    slots: Vec<u16>,
    /// The identifiers of the nodes, as far as they are known.
    ids: Vec<String>,
}

impl Topology {
    /// Builds the topology of `assignment`, and of `importing`, which may have no slots. Nodes keep the lanes that
    /// they have in `known`, and others get new ones.
    pub(super) fn of(
        assignment: Assignment,
        importing: Vec<Address>,
        known: &Self,
        lane: impl Fn() -> Arc<Lane>,
    ) -> Self {
        let mut topology = Self { ids: assignment.ids, ..Self::default() };
        let lane_at =
            |address: &Address| known.node_at(address).map_or_else(&lane, |node| Arc::clone(&node.lane));
        for (first, last, address) in assignment.ranges {
            let node = topology.node(address.clone(), || lane_at(&address));
            for slot in first..=last {
                topology.set(Slot(slot), node);
            }
        }
        for node in importing {
            topology.node(node.clone(), || lane_at(&node));
        }
        topology
    }

    /// Returns the identifiers of the nodes, as far as they are known.
    pub(super) fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Gives `slot` to the node at `address`.
    pub(super) fn assign(
        &mut self,
        slot: Slot,
        address: Address,
        lane: impl FnOnce() -> Arc<Lane>,
    ) -> Arc<Node> {
        let node = self.node(address, lane);
        self.set(slot, node);
        Arc::clone(&self.nodes[node])
    }

    /// Adds the node at `address`, which may have no slots.
    pub(super) fn join(&mut self, address: Address, lane: impl FnOnce() -> Arc<Lane>) -> Arc<Node> {
        let node = self.node(address, lane);
        Arc::clone(&self.nodes[node])
    }

    fn node(&mut self, address: Address, lane: impl FnOnce() -> Arc<Lane>) -> usize {
        let known = self.nodes.iter().position(|node| node.address == address);
        known.unwrap_or_else(|| {
            self.nodes.push(Arc::new(Node { address, lane: lane() }));
            self.nodes.len() - 1
        })
    }

    fn set(&mut self, slot: Slot, node: usize) {
        if self.slots.is_empty() {
            self.slots = vec![NOBODY; SLOTS.into()];
        }
        self.slots[usize::from(slot.0)] = u16::try_from(node).unwrap_or(NOBODY);
    }

    pub(super) fn node_of(&self, slot: Slot) -> Option<Arc<Node>> {
        let node = *self.slots.get(usize::from(slot.0))?;
        self.nodes.get(usize::from(node)).cloned()
    }

    pub(super) fn node_at(&self, address: &Address) -> Option<Arc<Node>> {
        self.nodes.iter().find(|node| node.address == *address).cloned()
    }

    /// Returns an unused key in a slot of the node at `address`, or `None` if that node has no slots.
    pub(super) fn key_at(&self, address: &Address, key_prefix: &str) -> Option<String> {
        let node = self.nodes.iter().position(|node| node.address == *address)?;
        let node = u16::try_from(node).ok().filter(|node| self.slots.contains(node))?;
        let is_there = |key: &String| self.slots[usize::from(Slot::of(key).0)] == node;
        // Tries up to 16 keys per slot, since hashing does not spread them evenly.
        (0..u32::from(SLOTS) * 16).map(|number| unused_key(key_prefix, number)).find(is_there)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::cluster::tests::cluster;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16::State::<crc16::XMODEM>::calculate(b"123456789"), 0x31c3);
        assert_eq!(Slot::of("foo"), Slot(12_182));
        assert_eq!(Slot::of("rl:{foo}60000"), Slot::of("foo"));
        assert_eq!(Slot::of("{}foo"), Slot(crc16::State::<crc16::XMODEM>::calculate(b"{}foo") % SLOTS));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in
            [("192.0.2.7:1", "192.0.2.7", 1), ("::1:7000", "::1", 7_000), (":7000", "asked", 7_000)]
        {
            assert_eq!(Address::parse(text, "asked"), Some(Address { host: host.to_owned(), port }));
        }
        for text in ["", "?:7000", "host", "host:", "host:70000", ":"] {
            assert_eq!(Address::parse(text, "asked"), None, "{text}");
        }
    }

    /// Looking for a key of a node without slots would hold up the mender.
    #[test]
    fn a_node_has_a_key_if_it_has_slots() {
        let cluster = cluster(&["redis://192.0.2.7"]).expect("it is one");
        let address = |port| Address { host: "192.0.2.7".to_owned(), port };
        let ranges = vec![(0, 9_999, address(1)), (10_000, 16_383, address(2))];
        let assignment = Assignment { ranges, ids: Vec::new() };
        let topology = Topology::of(assignment, vec![address(3)], &Topology::default(), || cluster.lane());
        for port in [1, 2] {
            let key = topology.key_at(&address(port), "rl:").expect("it has slots");
            let node = topology.node_of(Slot::of(&key)).expect("it is somebody's");
            assert_eq!(node.address, address(port));
        }
        assert_eq!(topology.key_at(&address(3), "rl:"), None);
    }
}
