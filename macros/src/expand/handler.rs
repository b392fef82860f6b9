//! A handler asks for a permit, as its first extractor.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse_quote;

use crate::expand::declaration::Declaration;
use crate::target::Function;

/// The struct bears a name of its own: one that it shared with the function would be in the way of
/// modules, crates and types of that name.
///
/// ```text
/// // Input:
/// async fn calculate(Json(input): Json<Input>) -> Json<Value> { … }
///
/// // Output:
/// struct __rate_limit_calculate {}
/// impl Policies for __rate_limit_calculate { … }
/// async fn calculate(_: Permit<__rate_limit_calculate>, Json(input): Json<Input>) -> Json<Value> { … }
/// ```
pub(crate) fn expand(declaration: &Declaration, mut function: Function) -> TokenStream {
    let krate = &declaration.krate;
    let name = format_ident!("__rate_limit_{}", function.sig.ident);
    let vis = &function.vis;
    let policies = declaration.carried_by(&quote!(#name));
    // It is named after a function, never made, and as visible as the handler whose signature it is in.
    let carrier = quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, unreachable_pub, missing_debug_implementations)]
        #vis struct #name {}
        #policies
    };
    let permit = parse_quote!(_: #krate::__private::Permit<#name>);
    function.sig.inputs.insert(0, permit);
    quote!(#function #carrier)
}
