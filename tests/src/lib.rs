//! Helpers that the tests share: real Redis servers, and applications served on loopback.

mod app;
mod away;
mod client;
mod cluster;
mod in_process;
mod instances;
mod log;
mod member;
mod proxy;
mod recovery;
mod redis;
mod sentinels;
mod storm;
mod tls;

pub use app::App;
pub use away::Away;
pub use client::{Answer, Client, LIMIT_FIELDS};
pub use cluster::RedisCluster;
pub use in_process::{Reply, reply, send};
pub use instances::{Balanced, Instances};
pub use log::Log;
pub use proxy::{Fault, FaultProxy};
pub use recovery::{built, counts, recovered, refusal};
pub use redis::RedisServer;
pub use sentinels::Sentinels;
pub use storm::{Loss, Storm, Tally};
pub use tls::{Authority, Certificate, TlsServer};

/// Runs each function with a limiter in memory, with a limiter on its own Redis, and with two instances of a
/// service that share a Redis, with requests spread over them at random.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $name() {
                    let limiter = axum_rate_limit::RateLimiter::memory();
                    super::$name($crate::Instances::of([limiter])).await;
                }
            )*
        }

        mod redis {
            $(
                #[tokio::test]
                async fn $name() {
                    let server = $crate::RedisServer::start().await;
                    super::$name($crate::Instances::of([server.limiter().await])).await;
                }
            )*
        }

        mod two_instances {
            $(
                #[tokio::test]
                async fn $name() {
                    let server = $crate::RedisServer::start().await;
                    // Each must see at once what the other gives back, so neither may remember denials.
                    let one = server.limiter_without_deny_memory().await;
                    let other = server.limiter_without_deny_memory().await;
                    super::$name($crate::Instances::of([one, other])).await;
                }
            )*
        }
    };
}
