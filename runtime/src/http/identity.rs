//! The identity of a request: who sends it, and what it asks for.

use std::net::{IpAddr, SocketAddr};

use axum::extract::connect_info::MockConnectInfo;
use axum::extract::{ConnectInfo, MatchedPath, OriginalUri};
use http::request::Parts;

use super::ledger::Ledger;
use crate::inline_string::InlineString;
use crate::key::{self, NoPeer, Target};
use crate::limiter::Limiter;
use crate::policy::{Policy, Scope};
use crate::rate_limiter::RateLimiter;

impl RateLimiter {
    /// Returns the client's address: that of the peer, or the one that a trusted proxy tells. `None` if the
    /// request has no peer address. Policies that are keyed by address count under this one's network.
    ///
    /// Use it, say, for a socket that checks each message, so that a client has one quota behind a proxy, too:
    ///
    /// ```
    /// use axum::http::request::Parts;
    /// use axum_rate_limit::{Error, Policy, RateLimiter};
    ///
    /// const MESSAGES: Policy = Policy::new("messages").per_second(10);
    ///
    /// async fn may_send(limiter: &RateLimiter, upgrade: &Parts) -> Result<bool, Error> {
    ///     let Some(client) = limiter.client_ip(upgrade) else { return Ok(false) };
    ///     Ok(limiter.check(&MESSAGES, client).await?.is_allowed())
    /// }
    /// ```
    pub fn client_ip(&self, request: &Parts) -> Option<IpAddr> {
        client(request, &self.0.limiter).ok()
    }
}

/// Returns the client's address as the limiter around the request sees it: that of the peer, or the one that a
/// [trusted proxy](crate::Builder::trusted_proxies) tells. `None` if there is no limiter around the request, or
/// the request has no peer address.
///
/// It is for the functions of policies, since the peer may be a proxy and all its clients would look alike, and
/// for handlers and middleware below the limiter. Elsewhere, use [`RateLimiter::client_ip`].
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use axum::http::request::Parts;
/// use axum_rate_limit::{client_ip, rate_limit};
///
/// /// The monitoring is not to be held up.
/// fn is_monitoring(request: &Parts) -> bool {
///     client_ip(request) == Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)))
/// }
///
/// #[rate_limit(name = "status", per_minute = 5, skip_if = is_monitoring)]
/// async fn status() {}
/// ```
pub fn client_ip(request: &Parts) -> Option<IpAddr> {
    Ledger::around(request)?.rate_limiter().client_ip(request)
}

/// Writes the key under which `policy` counts this request.
pub(super) fn write_key(
    parts: &Parts,
    policy: &Policy,
    limiter: &Limiter,
    key: &mut InlineString,
) -> Result<(), NoPeer> {
    let write_client = |key: &mut InlineString| {
        limiter.network_bits.write_network(client(parts, limiter)?, key);
        Ok(())
    };
    key::of_request(&limiter.key_prefix, policy, parts, &target(parts, policy), write_client, key)
}

/// Returns what this request asks for, as far as `policy` tells resources apart.
pub(super) fn target<'r>(parts: &'r Parts, policy: &Policy) -> Target<'r> {
    match policy.scope() {
        Scope::Policy => Target::Anything,
        // A nested router strips its prefix from the path.
        Scope::Resource => {
            let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
            Target::Resource(&parts.method, uri.path())
        }
        // A fallback matches no template. Its paths are without end, so they share one quota.
        Scope::Route => {
            let template = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
            Target::Route(&parts.method, template)
        }
    }
}

fn client(parts: &Parts, limiter: &Limiter) -> Result<IpAddr, NoPeer> {
    peer(parts).map(|peer| limiter.proxies.client(peer, &parts.headers))
}

fn peer(parts: &Parts) -> Result<IpAddr, NoPeer> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer);
    let mock = || parts.extensions.get::<MockConnectInfo<SocketAddr>>().map(|MockConnectInfo(peer)| peer);
    peer.or_else(mock).map(SocketAddr::ip).ok_or(NoPeer)
}
