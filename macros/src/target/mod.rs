//! Parses the item that the attribute stands on, by peeking and with bodies left as raw tokens.
//!
//! The body of an annotated function, or of a function directly inside an annotated module, is never parsed, so
//! whatever the compiler accepts there passes through.

mod function;
mod module;

use proc_macro2::{Span, TokenTree};
use quote::ToTokens;
use syn::parse::ParseStream;
use syn::{Attribute, Ident, LitStr, ReturnType, Signature, Token, Visibility};

pub(crate) use self::function::Function;
pub(crate) use self::module::{Module, ModuleItem};
use crate::returns::{Returned, RouterNames, ends_in, wrapped_error};

const PLACES: &str = "put `#[rate_limit]` on an `async fn` handler, on a function that returns `Router` or \
                      `MethodRouter`, or on a `mod { … }` that contains such functions";

/// The name of the struct that carries the policies of the attribute in a router function or a module.
const CARRIER: &str = "__RateLimit";

/// An item that can be limited.
pub(crate) enum Target {
    /// A handler.
    Handler(Function),
    /// A function that returns a router.
    Router(Function),
    /// An inline module with functions that return routers.
    Module(Module),
}

impl Target {
    /// Parses what follows the attributes of an item.
    pub(crate) fn parse(attrs: Vec<Attribute>, input: ParseStream<'_>) -> syn::Result<Self> {
        let vis: Visibility = input.parse()?;
        if input.peek(Token![mod]) {
            return Module::parse(attrs, vis, input).map(Self::Module);
        }
        if !at_function(input) {
            return Err(misplaced_error(input));
        }
        let function = Function::parse(attrs, vis, input)?;
        if let Some(receiver) = function.sig.receiver() {
            return Err(syn::Error::new_spanned(
                receiver,
                "a method can be neither a handler nor a router function here: move it out of the `impl` block, \
                 without `self`, and take what it needs as `State` or as an argument",
            ));
        }
        match RouterNames::default().classify(&function.sig.output) {
            Returned::Router => function.into_router(),
            Returned::Future => function.into_handler(),
            Returned::Wrapped(ty) => Err(wrapped_error(ty)),
            Returned::Other if function.sig.asyncness.is_some() => function.into_handler(),
            Returned::Other => Err(neither_error(&function.sig)),
        }
    }
}

/// The error for a function that is neither a handler nor a router function.
fn neither_error(signature: &Signature) -> syn::Error {
    let place = match &signature.output {
        ReturnType::Type(_, ty) => ty.to_token_stream(),
        ReturnType::Default => signature.ident.to_token_stream(),
    };
    syn::Error::new_spanned(
        place,
        "this function is not a handler, since it is not `async`, and does not return a router: make it `async`, \
         return `impl Future`, or write `Router`, `MethodRouter` or an alias that ends in `Router` as its \
         return type",
    )
}

/// Whether this is a `rate_limit` attribute, whatever path comes before that name.
pub(crate) fn is_limit(attr: &Attribute) -> bool {
    ends_in(attr.path(), &["rate_limit"])
}

/// Whether a function begins here, rather than a constant, an `extern` block, an `unsafe impl` or the like.
fn at_function(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    loop {
        if ahead.peek(Token![fn]) {
            return true;
        }
        let qualifier = ahead.peek(Token![const])
            || ahead.peek(Token![async])
            || ahead.peek(Token![unsafe])
            || ahead.peek(Token![extern])
            || ahead.peek(LitStr);
        if !qualifier || ahead.parse::<TokenTree>().is_err() {
            return false;
        }
    }
}

/// The error for attributes that do not see each other because one of them goes by another name.
fn aliased_error(ident: &Ident) -> syn::Error {
    syn::Error::new(
        ident.span(),
        "several `rate_limit` attributes are decided together only if each is called that: write \
         `#[rate_limit(…)]` for each, and not an alias from `use … as …`",
    )
}

/// The error for an item that is neither a function nor a module.
fn misplaced_error(input: ParseStream<'_>) -> syn::Error {
    let what = [
        (input.peek(Token![struct]), "a struct"),
        (input.peek(Token![enum]), "an enum"),
        (input.peek(Token![union]), "a union"),
        (input.peek(Token![trait]), "a trait"),
        (input.peek(Token![impl]), "an `impl` block"),
        (input.peek(Token![use]), "an import"),
        (input.peek(Token![const]), "a constant"),
        (input.peek(Token![static]), "a static"),
        (input.peek(Token![type]), "a type alias"),
        (input.peek(Token![let]), "a variable"),
    ];
    let what = what.iter().find(|(here, _)| *here).map_or("this", |(_, what)| what);
    let span = if input.is_empty() { Span::call_site() } else { input.span() };
    syn::Error::new(span, format!("{what} can't be limited: {PLACES}"))
}
