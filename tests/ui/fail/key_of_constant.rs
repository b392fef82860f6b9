//! Keys of the `const` builder that have parts too many or none.

use axum_rate_limit::{KeyPart, Policy};

const NOBODY: Policy = Policy::new("x").per_minute(5).key(&[]);
const TWICE: Policy = Policy::new("x").per_minute(5).key(&[KeyPart::Ip, KeyPart::Ip]);
const ONE_HEADER: Policy =
    Policy::new("x").per_minute(5).key(&[KeyPart::Header("x-key"), KeyPart::Ip, KeyPart::Header("X-Key")]);
const ALL: Policy = Policy::new("x").per_minute(5).key(&[KeyPart::Ip, KeyPart::Global]);

const TWO_HEADERS: Policy =
    Policy::new("x").per_minute(5).key(&[KeyPart::Header("x-key"), KeyPart::Header("x-key-2"), KeyPart::Ip]);

fn main() {
    let _ = (NOBODY, TWICE, ONE_HEADER, ALL, TWO_HEADERS);
}
