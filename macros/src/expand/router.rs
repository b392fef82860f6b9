//! Expands a router function, whose result goes through a guard.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{ReturnType, Type};

use crate::expand::declaration::Declaration;
use crate::target::Function;

/// Puts the body of a router function behind a guard.
///
/// ```text
/// // Input:
/// fn resources() -> Router { … }
///
/// // Output:
/// fn resources() -> Router {
///     struct __RateLimit {}
///     impl Policies for __RateLimit { … }
///     guard::<__RateLimit, Router>(move || -> Router { … })
/// }
/// ```
///
/// The carrier goes inside the function, since the function may be one of an `impl` block.
pub(crate) fn expand(declaration: &Declaration, used: &TokenStream, mut function: Function) -> TokenStream {
    let (items, guarded) = guarded_here(declaration, &function);
    function.fill(quote!(#used #items #guarded));
    function.into_token_stream()
}

/// Returns a carrier of the function's own with the policies, and the body of the function behind a guard with
/// them.
pub(crate) fn guarded_here(declaration: &Declaration, function: &Function) -> (TokenStream, TokenStream) {
    let krate = &declaration.krate;
    let carried = declaration.carried_by(&quote!(__RateLimit));
    let items = quote! {
        #[doc(hidden)]
        #[non_exhaustive]
        struct __RateLimit {}
        #carried
    };
    (items, guard_call(&quote!(#krate::__private::guard), &quote!(__RateLimit,), function))
}

/// Returns the call of `guard` with the body of `function`, in which `return` keeps its meaning. `generics` come
/// before the router's type.
pub(crate) fn guard_call(guard: &TokenStream, generics: &TokenStream, function: &Function) -> TokenStream {
    let body = &function.body;
    let ty = match &function.sig.output {
        ReturnType::Type(_, ty) => ty.to_token_stream(),
        ReturnType::Default => quote!(()),
    };
    let (generic, result) = if mentions_impl(&function.sig.output) {
        (quote!(_), TokenStream::new())
    } else {
        (ty.clone(), quote!(-> #ty))
    };
    if function.sig.asyncness.is_some() {
        // Only a `return` at its beginning tells the type of an `async` block.
        let returns = (!result.is_empty()).then(|| {
            quote! {
                if false {
                    return (|| -> #ty { loop {} })();
                }
            }
        });
        // Not in braces of their own, which a lint would call unnecessary around a short body.
        let statements = body.stream();
        return quote! {
            let __rate_limit_router: #generic = async move { #returns #statements }.await;
            #guard::<#generics #generic>(move || __rate_limit_router)
        };
    }
    quote!(#guard::<#generics #generic>(move || #result #body))
}

/// Whether the type contains `impl Trait`, which can only be written in a signature.
pub(crate) fn mentions_impl(output: &ReturnType) -> bool {
    fn in_tokens(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => ident == "impl",
            TokenTree::Group(group) => in_tokens(group.stream()),
            _ => false,
        })
    }
    matches!(output, ReturnType::Type(_, ty) if in_tokens(Type::to_token_stream(ty)))
}
