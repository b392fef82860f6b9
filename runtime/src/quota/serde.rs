//! Quotas in configuration files: the text that [`Display`](std::fmt::Display) writes, and
//! [`FromStr`](std::str::FromStr) reads.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Quota, Quotas};

macro_rules! as_text {
    ($($quotas:ty: $expected:literal),*) => {$(
        impl Serialize for $quotas {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $quotas {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl Visitor<'_> for Text {
                    type Value = $quotas;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$quotas, E> {
                        text.parse().map_err(|error| E::custom(format_args!("`{text}`: {error}")))
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    )*};
}

as_text!(
    Quota: "a text such as `5 per minute`",
    Quotas: "a text such as `5 per minute, 100 per hour`, or `unlimited`"
);

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
        let error = serde_json::from_str::<Quotas>("5").unwrap_err().to_string();
        assert!(
            error.contains("expected a text such as `5 per minute, 100 per hour`, or `unlimited`"),
            "{error}"
        );
    }
}
