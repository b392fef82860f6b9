//! Expands a module, whose router functions are each guarded with the module's policies.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use crate::errors::Errors;
use crate::expand::declaration::Declaration;
use crate::expand::{Siblings, absorb, probe, router};
use crate::target::{Function, Module, ModuleItem};

/// Guards each router function directly inside a module. The `impl`s go beside the module, where the attribute
/// stands and the names in it resolve.
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
///
/// Other functions are followed by a [probe].
pub(crate) fn expand(declaration: &Declaration, module: Module) -> TokenStream {
    let Module { attrs, vis, ident, inner, items } = module;
    let carried = declaration.carried_by(&quote!(#ident::__RateLimit));
    let krate = &declaration.krate;
    let mut errors = Errors::default();
    let mut is_probed = false;
    let items: Vec<TokenStream> = items
        .into_iter()
        .map(|item| match item {
            ModuleItem::Function(function) => {
                let probe = probe::of(&function);
                is_probed |= probe.is_some();
                quote!(#function #probe)
            }
            ModuleItem::Other(item) => item.into_token_stream(),
            ModuleItem::Router(function) => guarded(function, &mut errors),
        })
        .collect();
    let errors = errors.into_compile_errors();
    let inside = is_probed.then(probe::inside);
    let beside = is_probed.then(|| probe::beside(krate, &ident));
    // The carrier is visible to the `impl`s beside the module, whether or not the module itself is public.
    quote! {
        #(#attrs)*
        #vis mod #ident {
            #(#inner)*
            #[doc(hidden)]
            #[non_exhaustive]
            pub(super) struct __RateLimit {}
            #inside
            #(#items)*
        }
        impl #ident::__RateLimit {
            fn guard<R: #krate::__private::Guarded>(
                __rate_limit_make: impl ::core::ops::FnOnce() -> R,
            ) -> R {
                #krate::__private::guard::<Self, R>(__rate_limit_make)
            }
        }
        #beside
        #carried
        #errors
    }
}

/// Guards a router function with the policies of the module, then with its own.
///
/// The function's own attributes are absorbed, so that the module's limit is checked first. A faulty one is
/// reported here: it may be another crate's attribute of the same name, which would report nothing and leave the
/// function without this limit.
fn guarded(mut function: Function, errors: &mut Errors) -> TokenStream {
    let Siblings { policies: own, used } = absorb(&mut function.attrs, errors);
    let mut items = used;
    if !own.is_empty()
        && let Some(own) = Declaration::new(own)
    {
        own.check_names(errors);
        let (carrier, guarded) = router::guarded_here(&own, &function);
        items.extend(carrier);
        function.fill(guarded);
    }
    let guarded = router::guard_call(&quote!(self::__RateLimit::guard), &TokenStream::new(), &function);
    function.fill(quote!(#items #guarded));
    function.into_token_stream()
}
