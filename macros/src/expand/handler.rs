//! A handler asks for a permit, as its first extractor.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
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
    let permit = quote!(_: #krate::__private::Permit<#name>);
    // What another attribute has to say of all arguments begins at the first of the user's.
    let place = function.sig.inputs.first().and_then(|first| first.to_token_stream().into_iter().next());
    let permit = match place {
        Some(place) => located_at(permit, place.span()),
        None => permit,
    };
    // The permit is the one too many, and not one of the user's.
    let is_one_too_many = function.sig.inputs.len() == MOST_ARGUMENTS;
    let allow = is_one_too_many.then(|| quote!(#[allow(clippy::too_many_arguments)]));
    function.sig.inputs.insert(0, parse_quote!(#permit));
    quote!(#allow #function #carrier)
}

/// `tokens`, as if they stood at `place`; what they mean stays.
fn located_at(tokens: TokenStream, place: Span) -> TokenStream {
    let locate = |mut token: TokenTree| {
        let span = token.span().located_at(place);
        token.set_span(span);
        token
    };
    tokens.into_iter().map(locate).collect()
}
