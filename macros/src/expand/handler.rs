//! A handler asks for a permit, as its first extractor.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::parse_quote;

use crate::expand::declaration::Declaration;
use crate::target::Function;

/// As many arguments as Clippy lets pass, unless it is told otherwise.
const MOST_ARGUMENTS: usize = 7;

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
    // Its span is the attribute's, so that lints, which pass over what macros of other crates write, find
    // nothing in it, and none has to be allowed: where it is forbidden, that would be an error. (But for one, at the
    // end.)
    let name = format_ident!("__rate_limit_{}", function.sig.ident, span = Span::call_site());
    let vis = &function.vis;
    let policies = declaration.carried_by(&quote!(#name));
    // It is named after a function, and as visible as the handler whose signature it is in.
    let carrier = quote! {
        #[doc(hidden)]
        #[non_exhaustive]
        #vis struct #name {}
        #policies
    };
    let permit = parse_quote!(_: #krate::__private::Permit<#name>);
    // The permit is the one too many, and not one of the user's.
    let is_one_too_many = function.sig.inputs.len() == MOST_ARGUMENTS;
    let allow = is_one_too_many.then(|| quote!(#[allow(clippy::too_many_arguments)]));
    function.sig.inputs.insert(0, permit);
    quote!(#allow #function #carrier)
}
