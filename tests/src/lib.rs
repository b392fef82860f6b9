//! What the tests share: real Redis servers, and applications served on loopback.

mod app;
mod redis;

pub use app::{Answer, App, LIMIT_FIELDS};
pub use redis::RedisServer;
