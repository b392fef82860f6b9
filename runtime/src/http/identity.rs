//! Who asks, and for what, as the request tells it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::connect_info::MockConnectInfo;
use axum::extract::{ConnectInfo, MatchedPath, OriginalUri};
use http::request::Parts;

use super::ledger::Ledger;
use crate::key::{self, Asked};
use crate::limiter::Limiter;
use crate::policy::{Policy, Scope};
use crate::rate_limiter::RateLimiter;
use crate::text::Text;

impl RateLimiter {
    /// Whose request it is: the address of the peer, or that which a trusted proxy tells; `None` if the request knows no
    /// peer. Policies that are kept by address keep it for this one's network.
    ///
    /// For a socket that is asked for each message, say, whose client is to have one quota also behind a proxy:
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

/// Whose request it is, as the limiter around it sees it: the address of the peer, or that which a
/// [trusted proxy](crate::Builder::trusted_proxies) tells. `None` if there is no limiter around it, or the request knows
/// no peer.
///
/// For the functions of policies, where the peer may be a proxy, by which all clients look alike; and for handlers and
/// middleware below the limiter. Elsewhere there is [`RateLimiter::client_ip`].
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
    Ledger::around(request)?.limiter().client_ip(request)
}

/// There is no peer address in the request.
#[derive(Debug)]
pub(super) struct NoPeer;

/// Writes the key that `policy` keeps the quota of this request under.
pub(super) fn write_key(
    parts: &Parts,
    policy: &Policy,
    limiter: &Limiter,
    key: &mut Text,
) -> Result<(), NoPeer> {
    let client = || client(parts, limiter);
    let asked = match policy.scope() {
        Scope::Policy => Asked::Anything,
        // A nested router sees the path without its prefix.
        Scope::Resource => {
            let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri);
            Asked::Resource(&parts.method, uri.path())
        }
        // A fallback matches no template. It has one quota, since the paths there are without end.
        Scope::Route => {
            let template = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
            Asked::Route(&parts.method, template)
        }
    };
    key::of_request((&limiter.key_prefix, policy, limiter.prefixes), parts, &asked, client, key)
}

fn client(parts: &Parts, limiter: &Limiter) -> Result<IpAddr, NoPeer> {
    peer(parts).map(|peer| limiter.proxies.client(peer, &parts.headers))
}

fn peer(parts: &Parts) -> Result<IpAddr, NoPeer> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer);
    let mock = || parts.extensions.get::<MockConnectInfo<SocketAddr>>().map(|MockConnectInfo(peer)| peer);
    peer.or_else(mock).map(SocketAddr::ip).ok_or(NoPeer)
}
