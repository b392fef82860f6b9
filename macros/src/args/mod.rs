//! Parses the arguments of `#[rate_limit(…)]`.
//!
//! One table, [`table::ARGUMENTS`], drives the parsing, the search for duplicates, the lists in the messages and
//! the suggestions for misspelt arguments. Nothing here judges the values: that is left to [`crate::values`],
//! and the rules across arguments to [`crate::policy`].

mod grammar;
mod table;

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Ident, LitInt, LitStr, Path, Token};

use self::grammar::{ConstantPath, ModStyle, equals, no_value, quota, skip_argument, word};
use self::table::{ALGORITHMS, ARGUMENTS, ON_STORE_ERROR, bare_string, unknown_argument, usages};
pub(crate) use self::table::{Algorithm, Argument, Kind, OnStoreError};
use crate::errors::Errors;
use crate::key::{Callback, Key};

/// `N` requests per window, as written.
pub(crate) struct Quota {
    /// `per_minute` or the like, or `quota`.
    pub(crate) argument: &'static Argument,
    pub(crate) span: Span,
    pub(crate) count: Expr,
    pub(crate) window: Window,
}

/// The window of a quota.
pub(crate) enum Window {
    /// Implied by the argument, in milliseconds.
    Millis(u64),
    /// In humantime's grammar, not parsed yet.
    Text(LitStr),
}

/// A value and the argument it was given to, for faults of the argument as a whole.
pub(crate) struct Given<T> {
    pub(crate) argument: Ident,
    pub(crate) value: T,
}

/// The arguments of one attribute.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) name: Option<LitStr>,
    pub(crate) quotas: Vec<Quota>,
    /// `by_resource` or `by_route`: what a quota is kept for, in addition to the client.
    pub(crate) scopes: Vec<Ident>,
    pub(crate) algorithm: Option<(Ident, Algorithm)>,
    pub(crate) burst: Option<Given<Expr>>,
    pub(crate) key: Option<Key>,
    pub(crate) cost: Option<Expr>,
    pub(crate) quotas_by: Option<Given<Callback>>,
    pub(crate) skip_if: Option<Callback>,
    pub(crate) give_back_if: Option<Callback>,
    pub(crate) status: Option<Expr>,
    pub(crate) message: Option<Expr>,
    pub(crate) on_store_error: Option<(Ident, OnStoreError)>,
    pub(crate) shadow: Option<Ident>,
    pub(crate) policy: Option<Path>,
    pub(crate) krate: Option<Path>,
    /// The arguments that `policy` replaces, as written.
    pub(crate) inline: Vec<Ident>,
    /// What the arguments that could not be read were meant to be, so that they are not reported as missing, too.
    unread: Vec<Kind>,
}

impl Args {
    /// Parses as much of `tokens` as possible, and adds the faults to `errors`.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let parse = |input: ParseStream<'_>| {
            args.arguments(input, errors);
            Ok(())
        };
        // Every token is read or skipped, except those left over inside brackets, which syn reports.
        if let Err(error) = parse.parse2(tokens)
            && errors.is_empty()
        {
            errors.push(error);
        }
        args
    }

    /// Whether a name is given, even a faulty one.
    pub(crate) fn is_named(&self) -> bool {
        self.name.is_some() || self.unread.iter().any(|kind| matches!(kind, Kind::Name | Kind::Policy))
    }

    /// Whether a quota is given, even a faulty one.
    pub(crate) fn has_quota(&self) -> bool {
        let is_quota = |kind: &Kind| matches!(kind, Kind::Per(_) | Kind::Quota | Kind::Policy);
        !self.quotas.is_empty() || self.unread.iter().any(is_quota)
    }

    fn arguments(&mut self, input: ParseStream<'_>, errors: &mut Errors) {
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            if let Err(error) = self.argument(input, &mut seen) {
                errors.push(error);
                skip_argument(input);
            }
            if !input.is_empty() && input.parse::<Token![,]>().is_err() {
                errors.at(input.span(), "arguments are separated by commas: write `,` here");
                let _: Option<Token![;]> = input.parse().unwrap_or_default();
            }
        }
    }

    fn argument(&mut self, input: ParseStream<'_>, seen: &mut Vec<Ident>) -> syn::Result<()> {
        if input.peek(LitStr) {
            let (meant, error) = bare_string(&input.parse()?);
            self.unread.push(meant);
            return Err(error);
        }
        if input.peek(LitInt) {
            self.unread.push(Kind::Quota);
            return Err(
                input.error("a number is the value of an argument: write `per_minute = 5` or the like")
            );
        }
        let ident = Ident::parse_any(input)
            .map_err(|error| syn::Error::new(error.span(), format!("expected an argument: {}", usages())))?;
        let Some(argument) = ARGUMENTS.iter().find(|argument| ident == argument.name) else {
            let (meant, error) = unknown_argument(&ident);
            self.unread.extend(meant);
            return Err(error);
        };
        let repeatable = argument.kind == Kind::Quota;
        if !repeatable && seen.contains(&ident) {
            return Err(syn::Error::new(
                ident.span(),
                format!("`{ident}` is given twice: keep one of the two"),
            ));
        }
        seen.push(ident.clone());
        if !matches!(argument.kind, Kind::Policy | Kind::Crate) {
            self.inline.push(ident.clone());
        }
        let value = self.value(argument, ident, input);
        if value.is_err() {
            self.unread.push(argument.kind);
        }
        value
    }

    fn value(
        &mut self,
        argument: &'static Argument,
        ident: Ident,
        input: ParseStream<'_>,
    ) -> syn::Result<()> {
        match argument.kind {
            Kind::Name => {
                self.name = Some(equals(argument, &ident, input, "a string literal")?);
            }
            Kind::Per(millis) => {
                let count = equals(argument, &ident, input, "how many requests pass in the window")?;
                let span = ident.span();
                self.quotas.push(Quota { argument, span, count, window: Window::Millis(millis) });
            }
            Kind::Quota => {
                self.quotas.push(quota(argument, ident.span(), input)?);
            }
            Kind::Algorithm => {
                self.algorithm = Some(word(argument, &ident, input, ALGORITHMS)?);
            }
            Kind::Burst => {
                let value = equals(argument, &ident, input, "how many requests may pass at once")?;
                self.burst = Some(Given { argument: ident, value });
            }
            Kind::Key => {
                let what = "`ip`, `global`, `header(\"x-api-key\")`, a `fn(&Parts) -> Option<String>`, or a tuple of \
                            these";
                self.key = Some(equals(argument, &ident, input, what)?);
            }
            Kind::Cost => {
                let what = "a constant, or a `fn(&Parts) -> u32`";
                self.cost = Some(equals(argument, &ident, input, what)?);
            }
            Kind::QuotasBy => {
                let what = "a `fn(&Parts) -> Option<Quotas>`";
                let value = equals(argument, &ident, input, what)?;
                self.quotas_by = Some(Given { argument: ident, value });
            }
            Kind::SkipIf => {
                let what = "a `fn(&Parts) -> bool`, by its path or as a closure that captures nothing";
                self.skip_if = Some(equals(argument, &ident, input, what)?);
            }
            Kind::GiveBackIf => {
                let what =
                    "a `fn(&response::Parts) -> bool`, by its path or as a closure that captures nothing";
                self.give_back_if = Some(equals(argument, &ident, input, what)?);
            }
            Kind::OnStoreError => {
                self.on_store_error = Some(word(argument, &ident, input, ON_STORE_ERROR)?);
            }
            Kind::Shadow => {
                no_value(&ident, input)?;
                self.shadow = Some(ident);
            }
            Kind::Scope => {
                no_value(&ident, input)?;
                self.scopes.push(ident);
            }
            Kind::Status => {
                self.status = Some(equals(argument, &ident, input, "the status of a denial")?);
            }
            Kind::Message => {
                self.message = Some(equals(argument, &ident, input, "the text of a denial")?);
            }
            Kind::Policy => {
                let what = "the path of a `const` or `static` `Policy`";
                let ConstantPath(path) = equals(argument, &ident, input, what)?;
                self.policy = Some(path);
            }
            Kind::Crate => {
                let ModStyle(path) = equals(argument, &ident, input, "the path of the runtime crate")?;
                self.krate = Some(path);
            }
        }
        Ok(())
    }
}

/// Returns the expression without its parentheses and the invisible groups that macros put around it.
pub(crate) fn ungrouped(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::Group(group) => &group.expr,
            Expr::Paren(paren) => &paren.expr,
            _ => return expr,
        };
    }
}
