//! What is measured, and what the driver has to agree on with it.

mod column;
pub mod server;

pub use column::{CLIENTS, Column, DENIED_LIMIT, KEY_HEADER, NO_LIMIT, client};
