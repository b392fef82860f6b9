//! The nodes of a cluster, as one of them reports them.

/// A node, as seen by the one that reports it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) port: u16,
    /// The id of the master that it is a replica of.
    pub(crate) master: Option<String>,
    pub(crate) has_slots: bool,
    pub(crate) is_away: bool,
    /// Whether it is the node that reports.
    pub(crate) is_itself: bool,
}

impl Member {
    /// Parses the answer to `CLUSTER NODES`.
    pub(crate) fn all(table: &str) -> impl Iterator<Item = Self> {
        table.lines().map(Self::read)
    }

    /// Parses a line: id, address, flags, master, and four more fields before the slots.
    fn read(line: &str) -> Self {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields[1].split(['@', ',']).next().and_then(|address| address.rsplit(':').next());
        let mut flags = fields[2].split(',');
        Self {
            id: fields[0].to_owned(),
            port: port.and_then(|port| port.parse().ok()).expect("a node has a port"),
            master: Some(fields[3].to_owned()).filter(|master| master != "-"),
            has_slots: fields[2].contains("master") && fields.len() > 8,
            is_away: flags.any(|flag| flag == "fail" || flag == "noaddr"),
            is_itself: fields[2].contains("myself"),
        }
    }
}
