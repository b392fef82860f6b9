//! The Axum side of the limiter: checks requests on the way in, and tells clients of their quotas on the way out.
//!
//! [`layer`] puts a [`ledger`] into each request. A [`permit`] before a handler or a [`guard`](mod@guard) around a
//! router asks for [`admission`], which checks the policies under keys made from the request's [`identity`]. The ledger
//! keeps what was decided in its [`entries`] and [`checks`], which a handler reads as [`decisions`], corrects through a
//! [`charge`] and adds to with a [`request_limiter`], and the layer turns it into response [`fields`]. A request that
//! is [`denied`], perhaps with a [`problem`], is answered at once, and so are [`faults`] of the program; the [`denial`]
//! of what a handler has checked is an error that the handler returns.

mod admission;
mod charge;
mod checks;
mod decisions;
mod denial;
mod denied;
mod entries;
mod faults;
mod fields;
mod guard;
mod holdings;
mod identity;
mod layer;
mod ledger;
mod permit;
mod policy_functions;
mod problem;
mod request_limiter;

use http::StatusCode;

pub use charge::Charge;
pub use decisions::{Decisions, NoLayer};
pub use denial::Denial;
pub(crate) use denied::OnDenied;
pub use denied::{Denied, Reason};
pub use fields::Headers;
#[cfg(feature = "openapi-router")]
pub(crate) use guard::GuardLayer;
pub use guard::{Guarded, guard};
pub use identity::client_ip;
pub use layer::{RateLimitService, ResponseFuture};
pub use permit::Permit;
#[cfg(feature = "openapi")]
pub(crate) use problem::Problem;
pub use request_limiter::RequestLimiter;

use crate::policy::Policy;

/// The policies of an annotated item, carried by a type that the attribute makes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` carries no policies",
    label = "not made by `#[rate_limit]`",
    note = "this trait is the attribute's own: write `#[rate_limit(…)]` instead of naming `Permit`"
)]
pub trait Policies: 'static {
    /// The policies, in the order of the attributes.
    const POLICIES: &'static [&'static Policy];
}

/// The response settings of a limiter.
#[derive(Clone, Debug)]
pub(crate) struct ResponseSettings {
    pub(crate) status: StatusCode,
    pub(crate) headers: Headers,
    pub(crate) on_denied: OnDenied,
}

impl Default for ResponseSettings {
    fn default() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: Headers::default(),
            on_denied: OnDenied::default(),
        }
    }
}
