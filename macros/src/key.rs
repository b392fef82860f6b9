//! Parses `key = …`, which says who shares a quota, and the functions that this and other arguments take.

use proc_macro2::{Delimiter, Group, TokenStream};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{BinOp, Expr, ExprClosure, ExprPath, Ident, LitStr, Path, Token};

/// The parts of a key. Requests share a quota only if all parts are equal.
pub(crate) struct Key(pub(crate) Vec<KeyPart>);

/// One part of a key.
pub(crate) enum KeyPart {
    Ip(Ident),
    Global(Ident),
    /// `header("x-api-key")`
    Header(Ident, Expr),
    Function(Callback),
}

/// A function that the limiter calls, given by its path or as a closure.
pub(crate) enum Callback {
    Path(ExprPath),
    Closure(ExprClosure),
}

impl Parse for Key {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(syn::token::Bracket) {
            return Err(input.error("several parts are a tuple: write `key = (ip, header(\"x-api-key\"))`"));
        }
        if !input.peek(syn::token::Paren) {
            return Ok(Self(vec![input.parse()?]));
        }
        let content;
        syn::parenthesized!(content in input);
        let parts = Punctuated::<KeyPart, Token![,]>::parse_terminated(&content)?;
        if parts.is_empty() {
            return Err(syn::Error::new(content.span(), "a key has at least one part: write `key = ip`"));
        }
        let parts: Vec<KeyPart> = parts.into_iter().collect();
        match needless(&parts) {
            Some((part, fault)) => Err(syn::Error::new_spanned(part, fault)),
            None => Ok(Self(parts)),
        }
    }
}

/// Returns a part that makes no difference to the others, if there is one, and what to do about it.
fn needless(parts: &[KeyPart]) -> Option<(&KeyPart, &'static str)> {
    for (index, part) in parts.iter().enumerate() {
        if parts[..index].iter().any(|other| other.is_same(part)) {
            return Some((
                part,
                "this part is in the key twice: write `key = (ip, header(\"x-api-key\"))` or the like, each part once",
            ));
        }
        if let (KeyPart::Global(_), 2..) = (part, parts.len()) {
            let fault = "`global` makes no difference beside other parts: leave it out, or write `key = global` in an \
                         attribute of its own, for a quota that all share";
            return Some((part, fault));
        }
    }
    None
}

/// Says what to write instead of a string.
fn quoted(text: &str) -> String {
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    match text.to_ascii_lowercase().as_str() {
        word @ ("ip" | "global") => format!("this is a word: write `key = {word}`"),
        "" => "a part of a key is no string: write `key = ip` or the like".to_owned(),
        _ if text.contains("::") => format!("a function is given by its path: write `key = {text}`"),
        _ if text.chars().all(is_name) => {
            format!("write `key = header({text:?})` for the header of that name")
        }
        _ => "a part of a key is no string: write `key = header(\"x-api-key\")`, or the path of a function"
            .to_owned(),
    }
}

impl Parse for KeyPart {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if let Ok(text) = input.fork().parse::<LitStr>() {
            return Err(syn::Error::new_spanned(&text, quoted(&text.value())));
        }
        refuse_arguments(input)?;
        let function: Callback = input.parse()?;
        let Some(word) = function.word() else {
            return match function.key_part_variant() {
                Some(variant) => Err(syn::Error::new_spanned(
                    variant,
                    "`KeyPart` is for `Policy::key`: write `key = ip`, `global` or `header(\"x-api-key\")`",
                )),
                None => Ok(Self::Function(function)),
            };
        };
        Ok(match word.to_string().as_str() {
            "ip" => Self::Ip(word),
            "global" => Self::Global(word),
            "header" if !input.peek(syn::token::Paren) => {
                let fault =
                    "which header? write `key = header(\"x-api-key\")`, or `self::header` for a function";
                return Err(syn::Error::new(word.span(), fault));
            }
            "header" => {
                let content;
                syn::parenthesized!(content in input);
                Self::Header(word, parse_header_name(&content)?)
            }
            "Ip" | "IP" => return Err(syn::Error::new(word.span(), "write `key = ip`")),
            "Global" => return Err(syn::Error::new(word.span(), "write `key = global`")),
            _ => Self::Function(function),
        })
    }
}

/// Refuses the call of a function with arguments, such as `headers("x-api-key")`.
fn refuse_arguments(input: ParseStream<'_>) -> syn::Result<()> {
    let ahead = input.fork();
    let Ok(called) = ahead.parse::<ExprPath>() else { return Ok(()) };
    if called.path.is_ident("header") || !at_arguments(&ahead) {
        return Ok(());
    }
    Err(syn::Error::new_spanned(
        called,
        "only `header` takes an argument: write `key = header(\"x-api-key\")`, the path of a function, or a closure",
    ))
}

/// Whether parentheses that hold something begin here.
fn at_arguments(input: ParseStream<'_>) -> bool {
    let group = input.fork().parse::<Group>();
    group.is_ok_and(|group| group.delimiter() == Delimiter::Parenthesis && !group.stream().is_empty())
}

/// Parses the name of a header between its parentheses.
fn parse_header_name(content: ParseStream<'_>) -> syn::Result<Expr> {
    const NAME: &str = "a header has one name, a string: write `header(\"x-api-key\")`";
    const TWO: &str = "a header has one name: write `header(\"x-api-key\")`, \
                       and for two `key = (header(\"a\"), header(\"b\"))`";
    let name = content.parse::<Expr>().map_err(|error| syn::Error::new(error.span(), NAME));
    // Consumes the rest, so that syn does not report it as well.
    let rest: TokenStream = content.parse()?;
    match name? {
        Expr::Binary(bare) if matches!(bare.op, BinOp::Sub(_)) => Err(syn::Error::new_spanned(bare, NAME)),
        _ if !rest.is_empty() => Err(syn::Error::new_spanned(rest, TWO)),
        name => Ok(name),
    }
}

impl ToTokens for KeyPart {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Ip(word) | Self::Global(word) => word.to_tokens(tokens),
            Self::Header(word, name) => {
                word.to_tokens(tokens);
                name.to_tokens(tokens);
            }
            Self::Function(function) => function.to_tokens(tokens),
        }
    }
}

impl KeyPart {
    /// Whether two parts are written alike; the name of a header is the same in capitals.
    fn is_same(&self, other: &Self) -> bool {
        let text = |part: &Self| part.to_token_stream().to_string();
        match (self, other) {
            (Self::Header(..), Self::Header(..)) => text(self).eq_ignore_ascii_case(&text(other)),
            _ => text(self) == text(other),
        }
    }

    /// Returns the name of a header, the only part that can turn out to be invalid when it is evaluated.
    pub(crate) fn header_name(&self) -> Option<&Expr> {
        match self {
            Self::Header(_, name) => Some(name),
            Self::Ip(_) | Self::Global(_) | Self::Function(_) => None,
        }
    }
}

/// Refuses a path in quotes, as some attributes take it.
pub(crate) fn refuse_quotes(input: ParseStream<'_>) -> syn::Result<()> {
    match input.fork().parse::<LitStr>() {
        Ok(text) if text.parse::<Path>().is_ok() => {
            Err(syn::Error::new_spanned(&text, format!("a path has no quotes: write `{}`", text.value())))
        }
        _ => Ok(()),
    }
}

impl Parse for Callback {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![|]) || input.peek(Token![||]) || input.peek(Token![move]) {
            return input.parse().map(Self::Closure);
        }
        refuse_quotes(input)?;
        let path: ExprPath = input.parse()?;
        if input.peek(syn::token::Paren) && !path.path.is_ident("header") {
            let name = path.to_token_stream().to_string().replace(' ', "");
            let fault = if at_arguments(input) {
                format!(
                    "a function is given by its path, or as a closure: write `|parts| {name}(…)` or the like"
                )
            } else {
                format!("a function is given by its path: write `{name}`, without parentheses")
            };
            return Err(syn::Error::new(input.span(), fault));
        }
        Ok(Self::Path(path))
    }
}

impl Callback {
    /// Returns the path if it names a variant of the runtime's `KeyPart`.
    fn key_part_variant(&self) -> Option<&ExprPath> {
        match self {
            Self::Path(path) => {
                let parent = path.path.segments.iter().rev().nth(1)?;
                (parent.ident == "KeyPart").then_some(path)
            }
            Self::Closure(_) => None,
        }
    }

    /// Returns the path as a word, if it is one.
    fn word(&self) -> Option<Ident> {
        match self {
            Self::Path(path) => path.path.get_ident().filter(|_| path.qself.is_none()).cloned(),
            Self::Closure(_) => None,
        }
    }
}

impl ToTokens for Callback {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Path(path) => path.to_tokens(tokens),
            Self::Closure(closure) => closure.to_tokens(tokens),
        }
    }
}
