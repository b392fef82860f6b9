//! `key = …`: who shares a quota.

use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprClosure, ExprPath, Ident, Token};

/// The parts of a key; of several all must be the same.
pub(crate) struct Key(pub(crate) Vec<KeyPart>);

/// One part of a key.
pub(crate) enum KeyPart {
    Ip(Ident),
    Global(Ident),
    /// `header("x-api-key")`
    Header(Ident, Expr),
    Function(Function),
}

/// What reads something off a request.
pub(crate) enum Function {
    Path(ExprPath),
    Closure(ExprClosure),
}

impl Parse for Key {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(syn::token::Paren) {
            return Ok(Self(vec![input.parse()?]));
        }
        let content;
        syn::parenthesized!(content in input);
        let parts = Punctuated::<KeyPart, Token![,]>::parse_terminated(&content)?;
        if parts.is_empty() {
            return Err(syn::Error::new(content.span(), "a key has at least one part: write `key = ip`"));
        }
        Ok(Self(parts.into_iter().collect()))
    }
}

impl Parse for KeyPart {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let function: Function = input.parse()?;
        let Some(word) = function.word() else { return Ok(Self::Function(function)) };
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
                Self::Header(word, content.parse()?)
            }
            _ => Self::Function(function),
        })
    }
}

impl KeyPart {
    /// The name of a header, which is all that can be at fault once it is evaluated.
    pub(crate) fn header(&self) -> Option<&Expr> {
        match self {
            Self::Header(_, name) => Some(name),
            Self::Ip(_) | Self::Global(_) | Self::Function(_) => None,
        }
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Token![|]) || input.peek(Token![||]) || input.peek(Token![move]) {
            return input.parse().map(Self::Closure);
        }
        input.parse().map(Self::Path)
    }
}

impl Function {
    /// The word that it is, if it is one.
    fn word(&self) -> Option<Ident> {
        match self {
            Self::Path(path) => path.path.get_ident().filter(|_| path.qself.is_none()).cloned(),
            Self::Closure(_) => None,
        }
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut proc_macro2::TokenStream) {
        match self {
            Self::Path(path) => path.to_tokens(tokens),
            Self::Closure(closure) => closure.to_tokens(tokens),
        }
    }
}
