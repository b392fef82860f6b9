//! Each router function directly inside a module is guarded with the module's policies.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use crate::errors::Errors;
use crate::expand::declaration::Declaration;
use crate::expand::{Siblings, absorb, router};
use crate::target::{Function, Module, ModuleItem};

/// The `impl`s stand beside the module, where the attribute stands and the names in it are seen.
///
/// ```text
/// // Input:
/// mod resources {
///     pub fn router() -> Router { … }
/// }
///
/// // Output:
/// mod resources {
///     pub(super) struct __RateLimit {}
///     pub fn router() -> Router {
///         self::__RateLimit::guard::<Router>(move || -> Router { … })
///     }
/// }
/// impl resources::__RateLimit {
///     fn guard<R: Guarded>(make: impl FnOnce() -> R) -> R { guard::<Self, R>(make) }
/// }
/// impl Policies for resources::__RateLimit { … }
/// ```
pub(crate) fn expand(declaration: &Declaration, module: Module) -> TokenStream {
    let Module { attrs, vis, ident, inner, items } = module;
    let items = items.into_iter().map(|item| match item {
        ModuleItem::Function(function) => function.into_token_stream(),
        ModuleItem::Other(item) => item.into_token_stream(),
        ModuleItem::Router(function) => guarded(function),
    });
    let carried = declaration.carried_by(&quote!(#ident::__RateLimit));
    let krate = &declaration.krate;
    // The carrier is visible to the `impl`s beside the module, whether or not that is public itself.
    quote! {
        #(#attrs)*
        #vis mod #ident {
            #(#inner)*
            #[doc(hidden)]
            #[non_exhaustive]
            pub(super) struct __RateLimit {}
            #(#items)*
        }
        impl #ident::__RateLimit {
            fn guard<R: #krate::__private::Guarded>(
                __rate_limit_make: impl ::core::ops::FnOnce() -> R,
            ) -> R {
                #krate::__private::guard::<Self, R>(__rate_limit_make)
            }
        }
        #carried
    }
}

/// Attributes of the function's own are absorbed, so that the module's limit is asked first; if one
/// is faulty, the function is left as it is, for the attribute to expand by itself and to say so.
fn guarded(mut function: Function) -> TokenStream {
    let unguarded = function.to_token_stream();
    let Siblings { policies: own, used } = absorb(&mut function.attrs, &mut Errors::default());
    let mut items = TokenStream::new();
    if !own.is_empty() {
        let Some(own) = Declaration::new(own) else { return unguarded };
        let (carrier, guarded) = router::guarded_here(&own, &function);
        items = quote!(#used #carrier);
        function.fill(guarded);
    }
    let guarded = router::guarded(&quote!(self::__RateLimit::guard), &TokenStream::new(), &function);
    function.fill(quote!(#items #guarded));
    function.into_token_stream()
}
