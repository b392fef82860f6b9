//! What the driver and the servers it measures have to agree on.

mod column;

pub use column::{CLIENTS, Column, DENIED_LIMIT, KEY_HEADER, NO_LIMIT, client};
