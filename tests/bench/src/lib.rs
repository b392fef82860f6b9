//! The servers that are measured, and what they share with the driver.

mod column;
pub mod server;

pub use column::{CLIENTS, Column, DENIED_LIMIT, KEY_HEADER, NO_LIMIT, client};
