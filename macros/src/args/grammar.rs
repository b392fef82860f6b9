//! Parses the value of one argument.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, ExprPath, Ident, LitStr, Path, Token};

use super::table::{Argument, in_snake_case};
use super::{Quota, Window};
use crate::key::refuse_quotes;
use crate::words::FOREIGN_VALUES;

pub(super) fn no_value(ident: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![=]) || input.peek(syn::token::Paren) {
        let message = format!("`{ident}` takes no value: write `{ident}`, or leave it out");
        return Err(syn::Error::new(input.span(), message));
    }
    Ok(())
}

/// Parses `= word`, where the word is one of a list.
pub(super) fn word<T: Copy>(
    argument: &Argument,
    ident: &Ident,
    input: ParseStream<'_>,
    words: &[(&str, T)],
) -> syn::Result<(Ident, T)> {
    let list: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    let list = list.join(", ");
    if let Some((value, word)) = written_otherwise(input, words) {
        let message = format!("`{0}` takes one of {list}: write `{0} = {word}`", argument.name);
        return Err(syn::Error::new_spanned(value, message));
    }
    let value: Ident = equals(argument, ident, input, &format!("one of {list}"))?;
    match words.iter().find(|(word, _)| value == word) {
        Some((_, meaning)) => Ok((value, *meaning)),
        None => Err(syn::Error::new(
            value.span(),
            format!("`{value}` is not a value of `{}`: there are {list}", argument.name),
        )),
    }
}

/// Returns the word that is meant by `= "word"`, `= Word`, `= Type::Word` or another library's word, if one of the list
/// is, and how it is written.
fn written_otherwise<T>(input: ParseStream<'_>, words: &[(&str, T)]) -> Option<(TokenStream, String)> {
    let input = input.fork();
    input.parse::<Token![=]>().ok()?;
    let (written, word) = if input.peek(LitStr) {
        let text: LitStr = input.parse().ok()?;
        (text.to_token_stream(), text.value())
    } else {
        let path: Path = input.parse().ok()?;
        if path.get_ident().is_some_and(|ident| words.iter().any(|(known, _)| ident == known)) {
            return None;
        }
        (path.to_token_stream(), path.segments.last()?.ident.to_string())
    };
    let word = in_snake_case(&word.trim().replace('-', "_"));
    let foreign = FOREIGN_VALUES.iter().find(|(foreign, _)| foreign.contains(&word.as_str()));
    let word = foreign.map_or(word, |(_, own)| (*own).to_owned());
    words.iter().any(|(known, _)| *known == word).then_some((written, word))
}

/// A path without generic arguments.
pub(super) struct ModStyle(pub(super) Path);

impl Parse for ModStyle {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        refuse_quotes(input)?;
        input.call(Path::parse_mod_style).map(Self)
    }
}

/// A path in expression syntax: `Of::<T>::POLICY`, and not `Of<T>`.
pub(super) struct ConstantPath(pub(super) Path);

impl Parse for ConstantPath {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        match input.parse()? {
            ExprPath { qself: None, path, .. } => Ok(Self(path)),
            path => Err(syn::Error::new_spanned(path, "")),
        }
    }
}

/// Parses `= value`.
pub(super) fn equals<T: Parse>(
    argument: &Argument,
    ident: &Ident,
    input: ParseStream<'_>,
    what: &str,
) -> syn::Result<T> {
    let ahead = input.fork();
    let nothing = ahead.parse::<Option<Token![=]>>().is_ok() && at_end(&ahead);
    let fault = |span: Span| {
        let span = if nothing { ident.span() } else { span };
        syn::Error::new(span, format!("`{}` wants {what}: write `{}`", argument.name, argument.usage))
    };
    let value = input.parse::<Token![=]>().and_then(|_| input.parse::<T>());
    let value = value.map_err(|error| {
        // An error that says what to write is more helpful than the generic one.
        let says_what_to_write = error.to_string().contains("write `");
        if says_what_to_write { error } else { fault(error.span()) }
    })?;
    // If another argument follows without a comma, that is not the fault of this one.
    if at_end(input) || input.peek(Token![;]) || input.peek(Ident::peek_any) {
        return Ok(value);
    }
    Err(fault(input.span()))
}

fn at_end(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

/// Parses `(N, per = "90s")`.
pub(super) fn quota(argument: &'static Argument, span: Span, input: ParseStream<'_>) -> syn::Result<Quota> {
    let usage = format!("write `{}`: how many requests, and in which window", argument.usage);
    if !input.peek(syn::token::Paren) {
        return Err(syn::Error::new(if at_end(input) { span } else { input.span() }, usage));
    }
    let content;
    syn::parenthesized!(content in input);
    let read = || -> syn::Result<(Expr, LitStr)> {
        let count = content.parse()?;
        if let Expr::Assign(_) = count {
            return Err(syn::Error::new_spanned(count, ""));
        }
        content.parse::<Token![,]>()?;
        let per: Ident = content.parse()?;
        if per != "per" {
            return Err(syn::Error::new(per.span(), ""));
        }
        content.parse::<Token![=]>()?;
        let window = content.parse()?;
        let _: Option<Token![,]> = content.parse()?;
        if content.is_empty() { Ok((count, window)) } else { Err(content.error("")) }
    };
    let result = read().map_err(|error| syn::Error::new(error.span(), usage));
    // Consumes the rest, so that syn does not report it as well.
    let _: TokenStream = content.parse()?;
    let (count, window) = result?;
    Ok(Quota { argument, span, count, window: Window::Text(window) })
}

/// Skips the rest of an argument, up to its comma.
pub(super) fn skip_argument(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}
