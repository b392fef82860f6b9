//! What the tests share: real Redis servers, and applications served on loopback.

mod app;
mod client;
mod cluster;
mod proxy;
mod recovery;
mod redis;
mod sentinels;
mod storm;
mod tls;

pub use app::App;
pub use client::{Answer, Client, LIMIT_FIELDS};
pub use cluster::RedisCluster;
pub use proxy::{Fault, FaultProxy};
pub use recovery::{built, recovered, refusal};
pub use redis::RedisServer;
pub use sentinels::Sentinels;
pub use storm::{Loss, Storm, Tally};
pub use tls::{Authority, Certificate, TlsServer};

/// Runs each function once with a limiter in memory and once with one in a Redis of its own.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(axum_rate_limit::RateLimiter::memory()).await;
                }
            )*
        }

        mod redis {
            $(
                #[tokio::test]
                async fn $name() {
                    let server = $crate::RedisServer::start().await;
                    super::$name(server.limiter().await).await;
                }
            )*
        }
    };
}
