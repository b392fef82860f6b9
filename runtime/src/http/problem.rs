//! A denial as an RFC 9457 problem document.

use http::StatusCode;
use serde_json::{Value, json};

/// The problem type of a denial: one of those that draft-ietf-httpapi-ratelimit-headers-11 registers.
pub(crate) struct Problem {
    status: u16,
    name: &'static str,
    title: &'static str,
}

impl Problem {
    /// Returns the problem type of a denial with this status.
    pub(crate) fn of(status: u16) -> Self {
        let (name, title) = if status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            (
                "temporary-reduced-capacity",
                "Request cannot be satisfied due to temporary server capacity constraints",
            )
        } else {
            ("quota-exceeded", "Request cannot be satisfied as assigned quota has been exceeded")
        };
        Self { status, name, title }
    }

    /// Returns the problem document of RFC 9457, with the draft's `violated-policies`.
    pub(crate) fn body(&self, detail: &str, violated: &[impl AsRef<str>]) -> Value {
        json!({
            "type": format!("https://iana.org/assignments/http-problem-types#{}", self.name),
            "title": self.title,
            "status": self.status,
            "detail": detail,
            "violated-policies": violated.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        })
    }
}
