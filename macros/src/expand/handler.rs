//! Expands a handler, which gets a permit as its first extractor.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::parse_quote;

use crate::expand::declaration::Declaration;
use crate::target::Function;

/// The most arguments that Clippy accepts by default.
const CLIPPY_MAX_ARGUMENTS: usize = 7;

/// Adds the permit to the handler's arguments, and a struct that carries the policies beside the handler.
///
/// The struct has a name of its own: if it shared the function's name, it would clash with modules, crates
/// and types of that name.
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
    // The name has the attribute's span, so that lints, which skip the output of other crates' macros, find
    // nothing in the struct. So no lint has to be allowed, which would be an error where that lint is forbidden.
    // (The one exception is at the end.)
    let name = format_ident!("__rate_limit_{}", function.sig.ident, span = Span::call_site());
    let vis = &function.vis;
    let policies = declaration.carried_by(&quote!(#name));
    // The struct is named after a function, and as visible as the handler, whose signature names it.
    let carrier = quote! {
        #[doc(hidden)]
        #[non_exhaustive]
        #vis struct #name {}
        #policies
    };
    let permit = quote!(_: #krate::__private::Permit<#name>);
    // The permit is located at the user's first argument, so that what another attribute reports on all
    // arguments begins there.
    let place = function.sig.inputs.first().and_then(|first| first.to_token_stream().into_iter().next());
    let permit = match place {
        Some(place) => located_at(permit, place.span()),
        None => permit,
    };
    // Only if the permit is the one argument too many, and not one of the user's.
    let is_one_too_many = function.sig.inputs.len() == CLIPPY_MAX_ARGUMENTS;
    let allow = is_one_too_many.then(|| quote!(#[allow(clippy::too_many_arguments)]));
    function.sig.inputs.insert(0, parse_quote!(#permit));
    quote!(#allow #function #carrier)
}

/// Returns `tokens` as if they were written at `place`. What they resolve to stays the same.
fn located_at(tokens: TokenStream, place: Span) -> TokenStream {
    let locate = |mut token: TokenTree| {
        let span = token.span().located_at(place);
        token.set_span(span);
        token
    };
    tokens.into_iter().map(locate).collect()
}
