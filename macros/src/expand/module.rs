//! Each router function directly inside a module is guarded with the module's policies.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use crate::errors::Errors;
use crate::expand::declaration::Declaration;
use crate::expand::{absorb, router};
use crate::target::{Function, Module, ModuleItem};

/// The `impl` stands beside the module, where the attribute stands and the names in it are seen.
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
///         guard::<self::__RateLimit, Router>(move || -> Router { … })
///     }
/// }
/// impl Policies for resources::__RateLimit { … }
/// ```
pub(crate) fn expand(declaration: &Declaration, module: Module) -> TokenStream {
    let Module { attrs, vis, ident, inner, items } = module;
    let items = items.into_iter().map(|item| match item {
        ModuleItem::Function(function) => function.into_token_stream(),
        ModuleItem::Other(item) => item.into_token_stream(),
        ModuleItem::Router(function) => guarded(declaration, function),
    });
    let carried = declaration.carried_by(&quote!(#ident::__RateLimit));
    // The carrier is visible to the `impl` beside the module, whether or not that is public itself.
    quote! {
        #(#attrs)*
        #vis mod #ident {
            #(#inner)*
            #[doc(hidden)]
            #[allow(unreachable_pub)]
            pub(super) struct __RateLimit {}
            #(#items)*
        }
        #carried
    }
}

/// Attributes of the function's own are absorbed, so that the module's limit is asked first; if one
/// is faulty, the function is left as it is, for the attribute to expand by itself and to say so.
fn guarded(declaration: &Declaration, mut function: Function) -> TokenStream {
    let unguarded = function.to_token_stream();
    let own = absorb(&mut function.attrs, &mut Errors::default());
    let mut items = TokenStream::new();
    if !own.is_empty() {
        let Some(own) = Declaration::new(own) else { return unguarded };
        let carried = own.carried_by(&quote!(__RateLimit));
        items = quote! {
            #[doc(hidden)]
            struct __RateLimit {}
            #carried
        };
        function.body = router::braced(router::guarded(&own.krate, &quote!(__RateLimit), &function));
    }
    let guarded = router::guarded(&declaration.krate, &quote!(self::__RateLimit), &function);
    function.body = router::braced(quote!(#items #guarded));
    function.into_token_stream()
}
