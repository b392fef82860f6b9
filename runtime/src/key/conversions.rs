//! What keys are made from.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::client_ip::address::canonical;
use super::{Key, PartValue};

/// Identifies a client by its address, which a limiter cuts to its [prefix](crate::Builder::ipv6_prefix).
impl From<IpAddr> for Key {
    fn from(ip: IpAddr) -> Self {
        PartValue::Ip(canonical(ip)).into()
    }
}

/// Identifies a client by its address, which a limiter cuts to its [prefix](crate::Builder::ipv6_prefix).
impl From<&IpAddr> for Key {
    fn from(ip: &IpAddr) -> Self {
        (*ip).into()
    }
}

macro_rules! from_address {
    ($($address:ty),*) => {$(
        /// Identifies a client by its address, which a limiter cuts to its [prefix](crate::Builder::ipv6_prefix).
        impl From<$address> for Key {
            fn from(ip: $address) -> Self {
                IpAddr::from(ip).into()
            }
        }
    )*};
}

from_address!(Ipv4Addr, Ipv6Addr);

/// Identifies a client, or anything else, by a text of yours. It is never the same as an address.
impl From<String> for Key {
    fn from(text: String) -> Self {
        PartValue::Text(text).into()
    }
}

macro_rules! from_text {
    ($($text:ty),*) => {$(
        /// Identifies a client, or anything else, by a text of yours. It is never the same as an address.
        impl From<$text> for Key {
            fn from(text: $text) -> Self {
                (*text).to_owned().into()
            }
        }
    )*};
}

from_text!(&str, &&str, &String, Box<str>, Arc<str>, Cow<'_, str>);

macro_rules! from_number {
    ($($number:ty),*) => {$(
        /// Identifies a client, or anything else, by a number of yours: the same as its text.
        impl From<$number> for Key {
            fn from(number: $number) -> Self {
                number.to_string().into()
            }
        }
    )*};
}

from_number!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

/// Identifies a client by two parts: the same as [`Key::and`].
impl<A: Into<Self>, B: Into<Self>> From<(A, B)> for Key {
    fn from((one, other): (A, B)) -> Self {
        one.into().and(other)
    }
}
