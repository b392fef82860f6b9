//! Quotas in configuration files: the text that [`Display`](std::fmt::Display) writes, and
//! [`FromStr`](std::str::FromStr) reads.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Quota, Quotas};

macro_rules! as_text {
    ($($quotas:ty),*) => {$(
        impl Serialize for $quotas {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $quotas {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|error| D::Error::custom(format_args!("`{text}`: {error}")))
            }
        }
    )*};
}

as_text!(Quota, Quotas);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_table_of_tiers_is_read_and_written() {
        let text = r#"{"gold":"50 per second, 100000 per day"}"#;
        let tiers: HashMap<String, Quotas> = serde_json::from_str(text).unwrap();
        assert_eq!(tiers["gold"], Quotas::of(Quota::per_second(50)).and(Quota::per_day(100_000)));
        assert_eq!(serde_json::to_string(&tiers).unwrap(), text);
        assert_eq!(serde_json::from_str::<Quota>(r#""5/minute""#).unwrap(), Quota::per_minute(5));
    }

    #[test]
    fn a_fault_says_what_to_write() {
        let error = serde_json::from_str::<Quota>(r#""5 a minute""#).unwrap_err().to_string();
        assert!(error.starts_with("`5 a minute`: a quota reads `5 per minute`"), "{error}");
    }
}
