//! A handler asks for a permit, as its first extractor.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse_quote;

use crate::expand::declaration::Declaration;
use crate::target::Function;

/// The struct may share the function's name, since a braced struct lives in the namespace of types
/// alone; so each import of the handler brings its policies along.
///
/// ```text
/// // Input:
/// async fn calculate(Json(input): Json<Input>) -> Json<Value> { … }
///
/// // Output:
/// struct calculate {}
/// impl Policies for calculate { … }
/// async fn calculate(_: Permit<calculate>, Json(input): Json<Input>) -> Json<Value> { … }
/// ```
pub(crate) fn expand(declaration: &Declaration, mut function: Function) -> TokenStream {
    let krate = &declaration.krate;
    let name = &function.sig.ident;
    let vis = &function.vis;
    let policies = declaration.carried_by(&quote!(#name));
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
