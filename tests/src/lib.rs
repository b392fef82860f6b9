//! What the tests share: real Redis servers, and applications served on loopback.
