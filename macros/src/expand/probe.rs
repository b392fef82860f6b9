//! Has the compiler find the routers of a module that the macro can't tell by their names.
//!
//! An alias from elsewhere (`type App = Router`) looks like any other type. Its routes would silently not be limited.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Ident, Path, ReturnType};

use crate::expand::router::mentions_impl;
use crate::returns::path_of;
use crate::target::Function;

/// Returns what goes into a module to tell routers from other types: an associated constant of the type itself comes
/// before one of a trait. No value of the type is ever made, which would be a warning in the user's code.
pub(crate) fn inside() -> TokenStream {
    quote! {
        #[doc(hidden)]
        #[allow(dead_code)]
        pub(super) struct __RateLimitProbe<T>(::core::marker::PhantomData<T>);
        trait __RateLimitNoRouter {
            const IS_ROUTER: bool = false;
        }
        impl<T> __RateLimitNoRouter for __RateLimitProbe<T> {}
    }
}

/// Returns what goes beside the module, where the path of the runtime resolves. The constant is used only if there is a
/// router to be found, and must not be a warning if there is none.
pub(crate) fn beside(krate: &Path, module: &Ident) -> TokenStream {
    quote! {
        impl<R: #krate::__private::Guarded> #module::__RateLimitProbe<R> {
            #[allow(dead_code)]
            const IS_ROUTER: bool = true;
        }
    }
}

/// Returns a constant that does not compile if `function`, which does not seem to return a router, returns one. There is
/// none if its type can't be written in a constant. The function may use a deprecated type under an `allow` of its own,
/// which does not reach the constant.
pub(crate) fn of(function: &Function) -> Option<TokenStream> {
    let ReturnType::Type(_, ty) = &function.sig.output else { return None };
    path_of(ty)?;
    let is_generic = !function.sig.generics.params.is_empty();
    if is_generic || mentions_impl(&function.sig.output) || function.attrs.iter().any(is_of_test) {
        return None;
    }
    let conditions = function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let check = quote_spanned! {ty.span()=>
        const _: () = ::core::assert!(
            !__RateLimitProbe::<#ty>::IS_ROUTER,
            "this function returns a router by another name, so its routes would not be limited: write `Router` or \
             `MethodRouter`, or give the alias a name that ends in `Router`"
        );
    };
    Some(quote!(#(#conditions)* #[allow(deprecated)] #check))
}

/// Whether an attribute makes the function a test, whose types may be there only under test.
fn is_of_test(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "test")
}
