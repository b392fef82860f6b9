//! A store that is away.

use axum_rate_limit::StoreError;
use axum_rate_limit::store::{Counter, Operation, Outcome, Store};

/// A store that is never reachable.
#[derive(Clone, Copy, Debug)]
pub struct Away;

impl Store for Away {
    async fn apply(&self, _: Operation, _: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        Err(StoreError::Unreachable("it is away".into()))
    }
}
