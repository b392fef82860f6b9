//! Snapshots of expansions, to be read by people: `UPDATE_EXPECT=1 cargo test` updates them.
#![allow(clippy::needless_raw_string_hashes)] // expect-test writes them

use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

fn check(args: TokenStream, item: &TokenStream, expected: &Expect) {
    let expanded = super::rate_limit(args, item);
    let file = syn::parse2(expanded).expect("the expansion is a file");
    expected.assert_eq(&prettyplease::unparse(&file));
}

#[test]
fn a_handler() {
    check(
        quote!(name = "hardwork", per_minute = 5, by_resource),
        &quote! {
            /// Works hard.
            #[instrument]
            pub(crate) async fn calculate<S: Clone>(State(state): State<S>) -> Json<Value>
            where
                S: Send,
            {
                body(state)
            }
        },
        &expect![[r#"
            /// Works hard.
            #[instrument]
            pub(crate) async fn calculate<S: Clone>(
                _: ::axum_rate_limit::__private::Permit<__rate_limit_calculate>,
                State(state): State<S>,
            ) -> Json<Value>
            where
                S: Send,
            {
                body(state)
            }
            #[doc(hidden)]
            #[non_exhaustive]
            pub(crate) struct __rate_limit_calculate {}
            impl ::axum_rate_limit::__private::Policies for __rate_limit_calculate {
                const POLICIES: &'static [&'static ::axum_rate_limit::Policy] = &[
                    &((::axum_rate_limit::Policy::new("hardwork")).per_minute(5)).by_resource(),
                ];
            }
            ::axum_rate_limit::__private::inventory::submit! {
                ::axum_rate_limit::__private::Declaration::new(< __rate_limit_calculate as
                ::axum_rate_limit::__private::Policies > ::POLICIES)
            }
        "#]],
    );
}

#[test]
fn stacked_attributes_on_a_handler() {
    check(
        quote!(name = "outer", per_minute = limits::OUTER, status = 429),
        &quote! {
            #[rate_limit(policy = INNER)]
            #[axum_rate_limit::rate_limit(name = "third", quota(2 * 30, per = "90s"), message = "No.")]
            async fn calculate() {}
        },
        &expect![[r#"
            async fn calculate(_: ::axum_rate_limit::__private::Permit<__rate_limit_calculate>) {}
            #[doc(hidden)]
            #[non_exhaustive]
            struct __rate_limit_calculate {}
            impl ::axum_rate_limit::__private::Policies for __rate_limit_calculate {
                const POLICIES: &'static [&'static ::axum_rate_limit::Policy] = &[
                    &((::axum_rate_limit::Policy::new("outer")).per_minute(limits::OUTER))
                        .status(429),
                    &INNER,
                    &((::axum_rate_limit::Policy::new("third"))
                        .quota(2 * 30, ::core::time::Duration::from_millis(90000u64)))
                        .message("No."),
                ];
            }
            ::axum_rate_limit::__private::inventory::submit! {
                ::axum_rate_limit::__private::Declaration::new(< __rate_limit_calculate as
                ::axum_rate_limit::__private::Policies > ::POLICIES)
            }
            #[rate_limit(__used)]
            const _: () = ();
            #[axum_rate_limit::rate_limit(__used)]
            const _: () = ();
        "#]],
    );
}

#[test]
fn a_handler_with_seven_extractors_of_its_own() {
    check(
        quote!(name = "many", per_minute = 5),
        &quote! {
            async fn many(_: A, _: B, _: C, _: D, _: E, _: F, _: G) {}
        },
        &expect![[r##"
            #[allow(clippy::too_many_arguments)]
            async fn many(
                _: ::axum_rate_limit::__private::Permit<__rate_limit_many>,
                _: A,
                _: B,
                _: C,
                _: D,
                _: E,
                _: F,
                _: G,
            ) {}
            #[doc(hidden)]
            #[non_exhaustive]
            struct __rate_limit_many {}
            impl ::axum_rate_limit::__private::Policies for __rate_limit_many {
                const POLICIES: &'static [&'static ::axum_rate_limit::Policy] = &[
                    &(::axum_rate_limit::Policy::new("many")).per_minute(5),
                ];
            }
            ::axum_rate_limit::__private::inventory::submit! {
                ::axum_rate_limit::__private::Declaration::new(< __rate_limit_many as
                ::axum_rate_limit::__private::Policies > ::POLICIES)
            }
        "##]],
    );
}

#[test]
fn functions() {
    check(
        quote!(
            name = "functions",
            per_minute = 5,
            key = (ip, header(HEADER), user),
            cost = weigh,
            quotas_by = tiers::of,
            skip_if = |parts| parts.method == Method::OPTIONS,
            give_back_if = |answer| answer.status.is_success()
        ),
        &quote! {
            async fn functions() {}
        },
        &expect![[r#"
            async fn functions(_: ::axum_rate_limit::__private::Permit<__rate_limit_functions>) {}
            #[doc(hidden)]
            #[non_exhaustive]
            struct __rate_limit_functions {}
            impl ::axum_rate_limit::__private::Policies for __rate_limit_functions {
                const POLICIES: &'static [&'static ::axum_rate_limit::Policy] = &[
                    &(((((((::axum_rate_limit::Policy::new("functions")).per_minute(5))
                        .key(
                            &[
                                ::axum_rate_limit::KeyPart::Ip,
                                ::axum_rate_limit::KeyPart::Header(HEADER),
                                ::axum_rate_limit::KeyPart::By(user),
                            ],
                        ))
                        .quotas_by(tiers::of))
                        .cost_by(weigh))
                        .skip_if(|parts| parts.method == Method::OPTIONS))
                        .give_back_if(|answer| answer.status.is_success()))
                        .__functions(
                            ::core::concat!(
                                ::core::module_path!(), ": ",
                                "key = user, cost = weigh, quotas_by = tiers :: of, skip_if = | parts | parts . method == Method :: OPTIONS, give_back_if = | answer | answer . status . is_success ()"
                            ),
                        ),
                ];
            }
            ::axum_rate_limit::__private::inventory::submit! {
                ::axum_rate_limit::__private::Declaration::new(< __rate_limit_functions as
                ::axum_rate_limit::__private::Policies > ::POLICIES)
            }
        "#]],
    );
}

#[test]
fn a_router_function() {
    check(
        quote!(name = "resources", per_minute = 10, by_route, crate = my::limits),
        &quote! {
            fn resources(mut state: AppState) -> Router<AppState> {
                if state.is_empty() {
                    return Router::new();
                }
                Router::new().route("/", get(list))
            }
        },
        &expect![[r#"
            fn resources(mut state: AppState) -> Router<AppState> {
                #[doc(hidden)]
                #[non_exhaustive]
                struct __RateLimit {}
                impl my::limits::__private::Policies for __RateLimit {
                    const POLICIES: &'static [&'static my::limits::Policy] = &[
                        &((my::limits::Policy::new("resources")).per_minute(10)).by_route(),
                    ];
                }
                my::limits::__private::inventory::submit! {
                    my::limits::__private::Declaration::new(< __RateLimit as
                    my::limits::__private::Policies > ::POLICIES)
                }
                my::limits::__private::guard::<
                    __RateLimit,
                    Router<AppState>,
                >(move || -> Router<AppState> {
                    if state.is_empty() {
                        return Router::new();
                    }
                    Router::new().route("/", get(list))
                })
            }
        "#]],
    );
}

#[test]
fn an_async_router_function() {
    check(
        quote!(name = "resources", per_minute = 10),
        &quote!(
            async fn resources(pool: &Pool) -> axum::Router {
                build(pool).await
            }
        ),
        &expect![[r#"
            async fn resources(pool: &Pool) -> axum::Router {
                #[doc(hidden)]
                #[non_exhaustive]
                struct __RateLimit {}
                impl ::axum_rate_limit::__private::Policies for __RateLimit {
                    const POLICIES: &'static [&'static ::axum_rate_limit::Policy] = &[
                        &(::axum_rate_limit::Policy::new("resources")).per_minute(10),
                    ];
                }
                ::axum_rate_limit::__private::inventory::submit! {
                    ::axum_rate_limit::__private::Declaration::new(< __RateLimit as
                    ::axum_rate_limit::__private::Policies > ::POLICIES)
                }
                let __rate_limit_router: axum::Router = async move {
                    if false {
                        return (|| -> axum::Router { loop {} })();
                    }
                    build(pool).await
                }
                    .await;
                ::axum_rate_limit::__private::guard::<
                    __RateLimit,
                    axum::Router,
                >(move || __rate_limit_router)
            }
        "#]],
    );
}

#[test]
fn a_module() {
    check(
        quote!(name = "resources", per_minute = 10),
        &quote! {
            #[cfg(unix)]
            pub mod resources {
                #![allow(unused)]
                use super::*;

                pub fn router() -> Router { Router::new().route("/", get(list)) }

                #[rate_limit(name = "own", per_second = 1)]
                fn own() -> MethodRouter<(), Error> { get(list) }

                async fn list() -> Json<Value> { body() }
            }
        },
        &expect![[r##"
            #[cfg(unix)]
            pub mod resources {
                #![allow(unused)]
                #[doc(hidden)]
                #[non_exhaustive]
                pub(super) struct __RateLimit {}
                #[doc(hidden)]
                #[allow(dead_code)]
                pub(super) struct __RateLimitProbe<T>(::core::marker::PhantomData<T>);
                trait __RateLimitNoRouter {
                    const IS_ROUTER: bool = false;
                }
                impl<T> __RateLimitNoRouter for __RateLimitProbe<T> {}
                use super::*;
                pub fn router() -> Router {
                    self::__RateLimit::guard::<
                        Router,
                    >(move || -> Router { Router::new().route("/", get(list)) })
                }
                fn own() -> MethodRouter<(), Error> {
                    #[rate_limit(__used)]
                    const _: () = ();
                    #[doc(hidden)]
                    #[non_exhaustive]
                    struct __RateLimit {}
                    impl ::axum_rate_limit::__private::Policies for __RateLimit {
                        const POLICIES: &'static [&'static ::axum_rate_limit::Policy] = &[
                            &(::axum_rate_limit::Policy::new("own")).per_second(1),
                        ];
                    }
                    ::axum_rate_limit::__private::inventory::submit! {
                        ::axum_rate_limit::__private::Declaration::new(< __RateLimit as
                        ::axum_rate_limit::__private::Policies > ::POLICIES)
                    }
                    self::__RateLimit::guard::<
                        MethodRouter<(), Error>,
                    >(move || -> MethodRouter<(), Error> {
                        ::axum_rate_limit::__private::guard::<
                            __RateLimit,
                            MethodRouter<(), Error>,
                        >(move || -> MethodRouter<(), Error> { get(list) })
                    })
                }
                async fn list() -> Json<Value> {
                    body()
                }
                #[allow(deprecated)]
                const _: () = ::core::assert!(
                    ! __RateLimitProbe:: < Json < Value > > ::IS_ROUTER,
                    "this function returns a router by another name, so its routes would not be limited: write `Router` or \
                         `MethodRouter`, or give the alias a name that ends in `Router`"
                );
            }
            impl resources::__RateLimit {
                fn guard<R: ::axum_rate_limit::__private::Guarded>(
                    __rate_limit_make: impl ::core::ops::FnOnce() -> R,
                ) -> R {
                    ::axum_rate_limit::__private::guard::<Self, R>(__rate_limit_make)
                }
            }
            impl<R: ::axum_rate_limit::__private::Guarded> resources::__RateLimitProbe<R> {
                #[allow(dead_code)]
                const IS_ROUTER: bool = true;
            }
            impl ::axum_rate_limit::__private::Policies for resources::__RateLimit {
                const POLICIES: &'static [&'static ::axum_rate_limit::Policy] = &[
                    &(::axum_rate_limit::Policy::new("resources")).per_minute(10),
                ];
            }
            ::axum_rate_limit::__private::inventory::submit! {
                ::axum_rate_limit::__private::Declaration::new(< resources::__RateLimit as
                ::axum_rate_limit::__private::Policies > ::POLICIES)
            }
        "##]],
    );
}

#[test]
fn a_faulty_attribute_leaves_the_item_as_it_is() {
    check(
        quote!(per_minute = 0),
        &quote! {
            #[rate_limit(name = "sibling", per_minute = 5)]
            async fn calculate() -> Json<Value> { body() }
        },
        &expect![[r#"
            async fn calculate() -> Json<Value> {
                body()
            }
            ::core::compile_error! {
                "a policy needs a name, which it has in the store, the headers and the logs: write `name = \"…\"`"
            }
            ::core::compile_error! {
                "a quota of 0 would deny every request: write a whole number from 1 to 4294967295, such as `per_minute = 5`"
            }
        "#]],
    );
}
