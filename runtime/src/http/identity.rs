//! Who asks, and for what, as the request tells it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::connect_info::MockConnectInfo;
use axum::extract::{ConnectInfo, MatchedPath, OriginalUri};
use http::request::Parts;

use crate::key::{self, Asked};
use crate::limiter::Limiter;
use crate::policy::{Policy, Scope};
use crate::text::Text;

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
    let client = || peer(parts).map(|peer| limiter.proxies.client(peer, &parts.headers));
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

fn peer(parts: &Parts) -> Result<IpAddr, NoPeer> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer);
    let mock = || parts.extensions.get::<MockConnectInfo<SocketAddr>>().map(|MockConnectInfo(peer)| peer);
    peer.or_else(mock).map(SocketAddr::ip).ok_or(NoPeer)
}
