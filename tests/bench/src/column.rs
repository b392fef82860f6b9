//! What is asked of a limiter.

use std::fmt;
use std::str::FromStr;

/// A limit that no run reaches: in an hour, for each key.
pub const NO_LIMIT: u32 = 1_000_000_000;
/// A limit that is reached before a run begins: in an hour, for the one key there is.
pub const DENIED_LIMIT: u32 = 100;
/// What the clients of [`Column::Keys`] are told apart by.
pub const KEY_HEADER: &str = "x-key";
/// How many of them there are.
pub const CLIENTS: usize = 10_000;

/// What one of them is called: its number is from 1 on.
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

    /// How many requests pass in an hour.
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

/// As an argument of the servers.
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
