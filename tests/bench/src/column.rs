//! The kinds of traffic that limiters are measured under.

use std::fmt;
use std::str::FromStr;

/// A limit per hour and key that no run reaches.
pub const NO_LIMIT: u32 = 1_000_000_000;
/// A limit per hour that is reached before a run begins, for the only key.
pub const DENIED_LIMIT: u32 = 100;
/// The header by which the clients of [`Column::Keys`] are told apart.
pub const KEY_HEADER: &str = "x-key";
/// The number of clients of [`Column::Keys`].
pub const CLIENTS: usize = 10_000;

/// Returns the name of a client; numbers begin with 1.
#[must_use]
pub fn client(number: usize) -> String {
    format!("client-{number:05}")
}

/// A kind of traffic, and the limit it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// All requests come from one address, and all pass.
    Hot,
    /// 10,000 clients, told apart by a header, take turns; all requests pass.
    Keys,
    /// All requests come from one address, and nearly all are denied.
    Denied,
}

impl Column {
    pub const ALL: [Self; 3] = [Self::Hot, Self::Keys, Self::Denied];

    /// Returns how many requests may pass per hour.
    #[must_use]
    pub fn limit(self) -> u32 {
        if self == Self::Denied { DENIED_LIMIT } else { NO_LIMIT }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Keys => "keys",
            Self::Denied => "denied",
        }
    }
}

/// Writes the column as an argument of the servers.
impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Column {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|column| column.word() == word);
        known.ok_or_else(|| format!("{word:?} is no column"))
    }
}
