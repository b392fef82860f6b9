//! A limited module keeps all that is in it.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications, rust_2018_idioms)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::routing::{MethodRouter, get};
use axum_rate_limit::rate_limit;

const LIMIT: u32 = 10;

/// Has docs.
#[rate_limit(name = "resources", per_minute = LIMIT, by_resource)]
pub mod resources {
    //! Has docs inside.
    #![allow(clippy::needless_pass_by_value)]

    use super::*;
    use axum::Router as Routes;

    /// A constant.
    pub const PATH: &str = "/resources";

    /// A struct.
    #[derive(Debug, Clone, Default)]
    pub struct Resource {
        /// A field.
        pub id: u32,
    }

    impl Resource {
        fn path(&self) -> String {
            format!("{PATH}/{}", self.id)
        }
    }

    /// A trait.
    pub trait Named {
        /// A name.
        fn name(&self) -> String;
    }

    impl Named for Resource {
        fn name(&self) -> String {
            self.path()
        }
    }

    /// Adds nothing to a router by itself.
    trait Fallbacks {
        fn with_fallback(self) -> Self;
    }

    impl Fallbacks for Router {
        fn with_fallback(self) -> Self {
            self.fallback(list)
        }
    }

    #[derive(Debug)]
    enum Kind {
        List,
    }

    type Handler = MethodRouter;

    static NAMES: &[&str] = &["list"];

    macro_rules! handlers {
        ($($name:ident),*) => {
            $(async fn $name() {})*
        };
    }

    handlers!(list, create);

    /// A layer has no routes.
    pub fn layer() -> impl tower::Layer<Router, Service = impl tower::Service<axum::extract::Request>> {
        tower::layer::util::Identity::new()
    }

    /// Has docs.
    pub fn router() -> Router {
        if NAMES.is_empty() {
            return Router::new();
        }
        Router::new().route(&Resource::default().name(), helper(&Kind::List)).merge(own()).with_fallback()
    }

    /// Is generic.
    pub fn generic<S: Clone + Send + Sync + 'static>() -> Router<S> {
        Router::new().route("/generic", get(list))
    }

    #[rate_limit(name = "own", per_second = 1)]
    #[rate_limit(name = "own_too", per_hour = 50)]
    fn own() -> Router {
        Router::new().route("/own", single())
    }

    fn single() -> MethodRouter {
        get(limited)
    }

    fn helper(kind: &Kind) -> Handler {
        match kind {
            Kind::List => get(list).post(create),
        }
    }

    /// Is a router by another name.
    pub fn renamed() -> Routes {
        Routes::new()
    }

    pub(crate) async fn late(path: &str) -> Router {
        Router::new().route(path, get(list))
    }

    #[rate_limit(name = "limited", per_minute = 5)]
    async fn limited() {}

    #[deprecated = "there are others"]
    struct Old;

    #[allow(deprecated)]
    fn old() -> Option<Old> {
        None
    }

    struct Borrowed<'a>(&'a str);

    fn borrowed(path: &str) -> Borrowed<'_> {
        Borrowed(path)
    }

    fn constant<const N: usize>() -> Option<[u8; N]> {
        None
    }

    async fn boxed() -> Box<dyn Fn(&str) -> Option<Kind>> {
        Box::new(|_| None)
    }

    #[cfg(any())]
    fn elsewhere() -> NoSuchType {}

    #[test]
    fn tested() -> NoSuchTypeEither {}

    /// Uses what would be dead code.
    pub async fn all_types() -> usize {
        boxed().await("");
        borrowed("").0.len() + old().iter().count() + constant::<1>().map_or(0, |[_]| 1)
    }

    /// Is a module of its own.
    pub mod inner {
        use super::{Router, get, list};

        /// Is not directly inside, and so is not limited.
        pub fn router() -> Router {
            Router::new().route("/inner", get(list))
        }
    }
}

#[rate_limit(name = "one", per_minute = 5)]
#[rate_limit(name = "two", per_hour = 50)]
mod stacked {
    pub(super) fn router() -> axum::Router {
        axum::Router::new()
    }
}

mod outer {
    use axum_rate_limit::rate_limit;

    #[rate_limit(name = "nested", per_minute = 5)]
    pub(crate) mod nested {
        use axum::routing::get;

        pub(in crate::outer) fn hidden() -> axum::Router {
            axum::Router::new().route("/hidden", get(|| async {}))
        }

        #[rate_limit(name = "deeper", per_minute = 5)]
        pub(crate) mod deeper {
            pub(crate) fn router() -> axum::Router {
                axum::Router::new().merge(super::hidden())
            }
        }

        use axum_rate_limit::rate_limit;
    }
}

fn main() {
    #[rate_limit(name = "local", per_minute = 5)]
    mod local {
        pub(super) fn router() -> axum::Router {
            axum::Router::new()
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _: Router = resources::router()
        .merge(resources::generic())
        .merge(resources::inner::router())
        .merge(runtime.block_on(resources::late("/late")))
        .merge(stacked::router())
        .merge(outer::nested::deeper::router())
        .merge(local::router());
}
