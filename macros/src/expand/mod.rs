//! Expands the attribute: its arguments and its item in, the limited item or the faults out.

mod declaration;
mod handler;
mod module;
mod probe;
mod router;
#[cfg(test)]
mod snapshots;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::quote;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Ident, ItemConst, Meta, Path, parse_quote};

use crate::errors::Errors;
use crate::expand::declaration::Declaration;
use crate::policy::Policy;
use crate::target::{Target, is_limit};

/// Expands the attribute, on tokens that also exist outside of the compiler.
///
/// A faulty attribute yields its errors and the item as it was, so that editors keep working. Since the errors
/// stop the compilation, no unlimited item is ever built from it.
pub(crate) fn rate_limit(args: TokenStream, item: &TokenStream) -> TokenStream {
    if is_use(&args, item) {
        return TokenStream::new();
    }
    let (mut attrs, rest) = match split.parse2(item.clone()) {
        Ok(split) => split,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#item #error);
        }
    };
    let mut errors = Errors::default();
    let own = Policy::read(args, Span::call_site(), &mut errors);
    let Siblings { policies, used } = absorb(&mut attrs, &mut errors);
    let declaration = Declaration::new(std::iter::once(own).chain(policies));
    if let Some(declaration) = &declaration {
        declaration.check_names(&mut errors);
    }
    let unguarded = quote!(#(#attrs)* #rest);

    let target = |input: ParseStream<'_>| Target::parse(attrs, input);
    let target = target.parse2(rest).map_err(|error| errors.push(error));
    match (target, declaration) {
        (Ok(target), Some(declaration)) if errors.is_empty() => match target {
            Target::Handler(function) => {
                let handler = handler::expand(&declaration, function);
                quote!(#handler #used)
            }
            Target::Router(function) => router::expand(&declaration, &used, function),
            Target::Module(module) => {
                let module = module::expand(&declaration, module);
                quote!(#module #used)
            }
        },
        _ => {
            let errors = errors.into_compile_errors();
            quote!(#unguarded #errors)
        }
    }
}

/// Splits an item into its attributes and everything after them.
fn split(input: ParseStream<'_>) -> syn::Result<(Vec<Attribute>, TokenStream)> {
    Ok((input.call(Attribute::parse_outer)?, input.parse()?))
}

/// The other `rate_limit` attributes of an item.
struct Siblings {
    /// The policies that they declare; `None` for a faulty attribute.
    policies: Vec<Option<Policy>>,
    /// Items that resolve the paths of the attributes, so that their imports are not reported as unused.
    used: TokenStream,
}

/// Takes the `rate_limit` attributes out of `attrs`, so that the first attribute to expand has all of them
/// decided at once.
fn absorb(attrs: &mut Vec<Attribute>, errors: &mut Errors) -> Siblings {
    let (ours, others): (Vec<_>, _) = std::mem::take(attrs).into_iter().partition(is_limit);
    *attrs = others;
    let used = ours.iter().map(|attr| use_of(attr.path())).collect();
    let read = |attr: Attribute| {
        let span = attr.path().segments.last().map_or_else(Span::call_site, |last| last.ident.span());
        let tokens = match &attr.meta {
            Meta::List(list) => list.tokens.clone(),
            Meta::Path(_) => TokenStream::new(),
            Meta::NameValue(pair) => {
                let usage = "write `#[rate_limit(name = \"…\", per_minute = 5)]`";
                errors.push(syn::Error::new_spanned(pair, usage));
                return None;
            }
        };
        if is_foreign(attr.path(), &tokens) {
            errors.at(
                span,
                "this is taken for an attribute of axum-rate-limit, but has none of its arguments: \
                 if it is another crate's, give that another name, by `use … as …`",
            );
            return None;
        }
        Policy::read(tokens, span, errors)
    };
    Siblings { policies: ours.into_iter().map(read).collect(), used }
}

/// Whether this seems to be another crate's attribute of the same name: it is written as a longer path, and does
/// not begin like any of our arguments.
fn is_foreign(path: &Path, tokens: &TokenStream) -> bool {
    let is_plain = path.is_ident("rate_limit");
    !is_plain && !matches!(tokens.clone().into_iter().next(), None | Some(TokenTree::Ident(_)))
}

/// Returns an item that only resolves `path`: the attribute expands it to nothing, see [`is_use`].
fn use_of(path: &Path) -> TokenStream {
    let nothing = nothing();
    quote!(#[#path(__used)] #nothing)
}

/// Whether this is an item from [`use_of`]. On any other item, `__used` is an unknown argument.
fn is_use(args: &TokenStream, item: &TokenStream) -> bool {
    let is_word = syn::parse2::<Ident>(args.clone()).is_ok_and(|word| word == "__used");
    is_word && syn::parse2(item.clone()).is_ok_and(|item: ItemConst| item == nothing())
}

fn nothing() -> ItemConst {
    parse_quote! {
        const _: () = ();
    }
}
