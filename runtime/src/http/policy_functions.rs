//! Whether functions of policies are running on this thread.

use std::cell::Cell;

thread_local! {
    static ARE_RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a function of a policy is running on this thread.
pub(super) fn are_running() -> bool {
    ARE_RUNNING.get()
}

/// Marks this thread while functions of policies run. Nothing is decided yet that they could look at, and the
/// ledger is locked: waiting for it would deadlock.
pub(super) struct Running {
    /// Whether this began inside of such a function.
    was_in_one: bool,
}

impl Running {
    pub(super) fn begin() -> Self {
        Self { was_in_one: ARE_RUNNING.replace(true) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        ARE_RUNNING.set(self.was_in_one);
    }
}
